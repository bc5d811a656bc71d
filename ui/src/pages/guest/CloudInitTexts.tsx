/** Texts for cloud-init in full: in a VM they take the place of what the options make, in a CT they are all there is. */
import { Alert, Button, Group, Stack, Table, Text, Title } from "@mantine/core";
import { useState } from "react";
import { told } from "../../api/errors";
import { FocusedModal } from "../../components/FocusedModal";
import { SchemaForm } from "../../components/SchemaForm";
import { type FullTexts, type Part, useFullTexts } from "../../hooks/cloudInit";
import type { GuestRow } from "../../hooks/resources";
import type { Action } from "../../logic/actions";
import { nameOf } from "../../logic/guestActions";
import type { Values } from "../../logic/schema";

const LABELS: Readonly<Record<Part, string>> = {
  user: "User data",
  network: "Network configuration",
  vendor: "Vendor data",
  meta: "Meta data",
};

/** An emptied text goes back to what the options make; one that is as before is not sent. */
function save(guest: GuestRow, before: FullTexts, values: Values): Action {
  const changed = Object.entries(values).filter(([part, text]) => text !== (before[part as Part] ?? ""));
  return {
    title: `Set the cloud-init texts of ${nameOf(guest)}`,
    method: "PUT",
    path: `/bastide/guests/${guest.vmid}/cloudinit`,
    parameters: Object.fromEntries(changed),
  };
}

export function CloudInitTexts({ guest }: { guest: GuestRow }) {
  const { data, error } = useFullTexts(guest);
  const [editing, setEditing] = useState(false);
  const parts = (["user", "network", "vendor", "meta"] as const).filter(
    (part) => guest.type === "qemu" || part !== "network",
  );
  return (
    <section aria-labelledby="full-texts">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="full-texts">
          Texts in full
        </Title>
        {data !== undefined && (
          <Button variant="default" size="compact-md" onClick={() => setEditing(true)}>
            Edit
          </Button>
        )}
      </Group>
      {error !== null && (
        <Alert color="yellow" role="status">
          {told(error)}
        </Alert>
      )}
      {data !== undefined && <Given texts={data} parts={parts} />}
      {editing && data !== undefined && (
        <FocusedModal opened onClose={() => setEditing(false)} title={`Cloud-init texts of ${nameOf(guest)}`} size="xl">
          <SchemaForm
            operation={{ method: "PUT", path: "/bastide/guests/{guest}/cloudinit" }}
            fields={parts.map((part) => ({ name: part, label: LABELS[part], lines: 4 }))}
            initial={{ ...data }}
            submit="Save"
            action={(values) => save(guest, data, values)}
            onDone={() => setEditing(false)}
            onCancel={() => setEditing(false)}
          />
        </FocusedModal>
      )}
    </section>
  );
}

function Given({ texts, parts }: { texts: FullTexts; parts: readonly Part[] }) {
  return (
    <Stack gap="xs">
      <Table aria-labelledby="full-texts">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="30%">Text</Table.Th>
            <Table.Th>Given</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {parts.map((part) => (
            <Table.Tr key={part}>
              <Table.Th scope="row" fw={500}>
                {LABELS[part]}
              </Table.Th>
              <Table.Td>
                <Text size="sm">{texts[part] === undefined ? "no" : `in full, ${texts[part].length} characters`}</Text>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Stack>
  );
}
