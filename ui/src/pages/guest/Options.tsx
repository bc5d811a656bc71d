/** A guest's options beside its hardware. */
import { Stack, Table, Title } from "@mantine/core";
import { useState } from "react";
import { Asked } from "../../components/Asked";
import { type PendingRow, usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { elsewhere } from "../../logic/devices";
import { waiting } from "../../logic/guestConfig";
import { formValues, optionsOf, shown, unnamed } from "../../logic/guestOptions";
import { BootOrder } from "./BootOrder";
import { EditOptions } from "./EditOptions";
import { OptionTable } from "./OptionTable";

export function Options({ guest }: { guest: GuestRow }) {
  return <Asked query={usePending(guest)}>{(rows) => <Shown guest={guest} rows={rows} />}</Asked>;
}

function Shown({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const [editing, setEditing] = useState<string>();
  const groups = optionsOf(guest.type);
  const group = groups.find((one) => one.id === editing);
  return (
    <Stack gap="lg">
      <OptionTable
        guest={guest}
        label="Options"
        rows={groups.map((one) => shown(one, rows))}
        waitingKeys={new Set(waiting(rows).map((row) => row.key))}
        onEdit={setEditing}
      />
      {guest.type === "qemu" && <BootOrder guest={guest} rows={rows} />}
      <Others guest={guest} rows={rows} />
      {group !== undefined && (
        <EditOptions
          guest={guest}
          label={group.label}
          fields={group.fields}
          initial={formValues(group.keys, rows)}
          onClose={() => setEditing(undefined)}
        />
      )}
    </Stack>
  );
}

/** What is set and has no form here: told as it stands. */
function Others({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const keys = unnamed(
    guest.type,
    rows.map((row) => row.key),
    (key) => elsewhere(guest.type, key),
  );
  if (keys.length === 0) {
    return null;
  }
  return (
    <section aria-labelledby="other-options">
      <Title order={2} size="h4" id="other-options" mb="xs">
        Other options
      </Title>
      <Table aria-labelledby="other-options">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="30%">Option</Table.Th>
            <Table.Th>Value</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {keys.map((key) => (
            <Table.Tr key={key}>
              <Table.Th scope="row" fw={500}>
                {key}
              </Table.Th>
              <Table.Td style={{ overflowWrap: "anywhere" }}>{rows.find((row) => row.key === key)?.value}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </section>
  );
}
