/** Restoring a whole backup: as a new guest, or in place of the guest that it is of. */
import { Alert, Group, Loader, SegmentedControl, Stack } from "@mantine/core";
import { useState } from "react";
import type { Done } from "../hooks/actions";
import { useNextId, usePools } from "../hooks/creating";
import { type GuestRow, useGuest } from "../hooks/resources";
import { useRequestSchema } from "../hooks/schema";
import { useNodeStorages } from "../hooks/storage";
import { type BackupRow, ofGuest, restore, restoreOver } from "../logic/backups";
import { nameOf, shutdown, stop } from "../logic/guestActions";
import { type FieldSpec, given, type Values } from "../logic/schema";
import { moment } from "../logic/units";
import { ActionButton } from "./ActionButton";
import { SchemaFields } from "./form/SchemaFields";
import { SchemaForm } from "./SchemaForm";

interface Props {
  node: string;
  row: BackupRow;
  onDone: (done?: Done) => void;
}

export function RestoreForm({ node, row, onDone }: Props) {
  const { kind, vmid } = ofGuest(row.volid) ?? { kind: "lxc" as const, vmid: 0 };
  const there = useGuest(vmid);
  const [over, setOver] = useState(false);
  const shown = { node, row, kind, onDone };
  return (
    <Stack>
      {there !== undefined && there.type === kind && (
        <SegmentedControl
          aria-label="What is made of it"
          data={[
            { value: "new", label: "A new guest" },
            { value: "over", label: `In place of ${nameOf(there)}` },
          ]}
          value={over ? "over" : "new"}
          onChange={(value) => setOver(value === "over")}
        />
      )}
      {over && there !== undefined ? (
        <Replace {...shown} guest={there} />
      ) : (
        <NewGuest {...shown} vmid={there === undefined ? vmid : undefined} />
      )}
    </Stack>
  );
}

/** Where the volumes go, as a choice of what can hold them. */
function useWhere(node: string, kind: "lxc" | "qemu"): FieldSpec {
  const content = kind === "lxc" ? "rootdir" : "images";
  const rows = useNodeStorages(node).data ?? [];
  const able = rows.filter((one) => one.active && one.content.split(",").includes(content));
  return { name: "storage", placeholder: "Where they were", options: able.map((one) => one.storage) };
}

const START: FieldSpec = { name: "start", label: "Start it then" };
const UNPRIVILEGED: FieldSpec = {
  name: "unprivileged",
  placeholder: "As it was",
  options: [
    { value: "1", label: "yes" },
    { value: "0", label: "no" },
  ],
};
const LIVE: FieldSpec = {
  name: "live-restore",
  label: "Live",
  help: "It starts at once, and is copied while it runs.",
};

interface ModeProps extends Props {
  kind: "lxc" | "qemu";
}

function NewGuest({ node, row, kind, vmid, onDone }: ModeProps & { vmid: number | undefined }) {
  const next = useNextId();
  const pools = usePools().data ?? [];
  const where = useWhere(node, kind);
  if (next.isPending) {
    return <Loader aria-label="Loading" />;
  }
  const fields: FieldSpec[] = [
    { name: "vmid", label: "VMID" },
    { name: kind === "lxc" ? "hostname" : "name", label: "Name", placeholder: "As it was" },
    where,
    ...(pools.length > 0 ? [{ name: "pool", options: pools.map((one) => one.poolid) }] : []),
    {
      name: "unique",
      label: "Hardware addresses of its own",
      help: "For a copy that runs beside what it was made of.",
    },
    START,
    kind === "lxc" ? UNPRIVILEGED : LIVE,
  ];
  return (
    <SchemaForm
      operation={{ method: "POST", path: `/nodes/{node}/${kind}` }}
      fields={fields}
      initial={{
        vmid: vmid === undefined ? (next.data ?? "") : String(vmid),
        ...(vmid === undefined && { unique: "1" }),
      }}
      action={(values) => restore(node, row.volid, given(values))}
      submit="Restore"
      onDone={(done) => onDone(done)}
      onCancel={() => onDone()}
    />
  );
}

function Replace({ node, row, kind, guest, onDone }: ModeProps & { guest: GuestRow }) {
  const [values, setValues] = useState<Values>({});
  const { schema } = useRequestSchema({ method: "POST", path: `/nodes/{node}/${kind}` });
  const where = useWhere(node, kind);
  const name = nameOf(guest);
  if (schema === undefined) {
    return <Loader aria-label="Loading" />;
  }
  if (guest.status === "running") {
    return (
      <Alert color="yellow" role="status" title={`${name} runs`}>
        <Stack align="flex-start">
          A guest has to be stopped before it is replaced.
          <Group gap="xs">
            <ActionButton action={shutdown(guest)} />
            <ActionButton action={stop(guest)} />
          </Group>
        </Stack>
      </Alert>
    );
  }
  const then = { volid: row.volid, ctime: moment(row.ctime) };
  return (
    <Stack>
      <SchemaFields
        schema={schema}
        fields={[where, START, ...(kind === "lxc" ? [UNPRIVILEGED] : [])]}
        values={values}
        onChange={(key, value) => setValues((before) => ({ ...before, [key]: value }))}
      />
      <Group justify="flex-end">
        <ActionButton action={restoreOver(node, then, { vmid: guest.vmid, name }, given(values))} onDone={onDone} />
      </Group>
    </Stack>
  );
}
