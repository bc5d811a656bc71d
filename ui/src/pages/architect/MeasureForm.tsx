/** Begins a measurement and follows it. */
import { Button, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";
import { SchemaForm } from "../../components/SchemaForm";
import { useStorages } from "../../hooks/resources";
import type { Action } from "../../logic/actions";
import { shellCommand } from "../../logic/actions";
import { given, type Values } from "../../logic/schema";
import { FollowedTask } from "./FollowedTask";

function measureAction(values: Values): Action {
  const { quick, runs, image, storage, vm } = values;
  const words = [
    ...(quick === "1" ? ["--quick"] : []),
    ...(runs ? ["--runs", runs] : []),
    ...(image ? ["--image", image] : []),
    ...(storage ? ["--storage", storage] : []),
    ...(vm === "0" ? ["--no-vm"] : []),
  ];
  return {
    title: "Compare",
    method: "POST",
    path: "/architect/compare",
    parameters: given(values),
    command: shellCommand("bastide", "compare", ...words),
  };
}

export function MeasureForm({ onMeasured }: { onMeasured: () => void }) {
  const [opened, { open, close }] = useDisclosure();
  const [task, setTask] = useState<string>();
  const storages = [...new Set((useStorages().data ?? []).filter(takesGuests).map((row) => row.storage))];
  return (
    <Stack>
      <Button
        onClick={() => {
          setTask(undefined);
          open();
        }}
      >
        Measure
      </Button>
      <Modal opened={opened} onClose={close} title="Measure containers against VMs" size="lg">
        {task === undefined ? (
          <Stack>
            <Text size="sm">
              Guests are made, measured one after the other, and removed again. The host is busy meanwhile; what else it
              does is measured, too.
            </Text>
            <SchemaForm
              operation={{ method: "POST", path: "/architect/compare" }}
              fields={[
                { name: "quick", label: "Quick", help: "In a few minutes, with less certainty" },
                { name: "vm", label: "VMs, too", help: "Without it containers are measured alone" },
                { name: "runs", label: "Guests of each kind", placeholder: "3" },
                { name: "image", label: "What both are made from", options: ["debian-12", "debian-13"], open: true },
                { name: "storage", label: "Where their disks go", options: storages },
              ]}
              initial={{ quick: "1", vm: "1" }}
              action={measureAction}
              submit="Measure"
              onDone={(done) => {
                setTask(done.task?.upid);
                void done.task?.ended.then(onMeasured, () => undefined);
              }}
              onCancel={close}
            />
          </Stack>
        ) : (
          <FollowedTask upid={task} title="Measuring" />
        )}
      </Modal>
    </Stack>
  );
}

function takesGuests(row: { readonly content: string }): boolean {
  return /\b(rootdir|images)\b/.test(row.content);
}
