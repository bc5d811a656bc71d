/** Tells that changes wait for the next start, with a way to forget each of them or to have them now. */
import { Alert, Button, Group, Stack, Table, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { ActionButton } from "../../components/ActionButton";
import { type PendingRow, usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { reboot } from "../../logic/guestActions";
import { revert, waiting } from "../../logic/guestConfig";

export function PendingNotice({ guest }: { guest: GuestRow }) {
  const rows = waiting(usePending(guest).data ?? []);
  const [opened, { toggle }] = useDisclosure();
  if (rows.length === 0) {
    return null;
  }
  const count = rows.length === 1 ? "1 change waits" : `${rows.length} changes wait`;
  return (
    <Alert color="blue" role="status" title={`${count} for the next start`}>
      <Stack gap="sm">
        <Group gap="xs">
          <Button variant="default" size="compact-md" onClick={toggle} aria-expanded={opened}>
            {opened ? "Hide" : "Show"}
          </Button>
          <ActionButton
            action={revert(
              guest,
              rows.map((row) => row.key),
            )}
            size="compact-md"
            plain
          >
            Revert all
          </ActionButton>
          {guest.status === "running" && (
            <ActionButton action={reboot(guest)} size="compact-md" plain>
              Reboot now
            </ActionButton>
          )}
        </Group>
        {opened && <Changes guest={guest} rows={rows} />}
      </Stack>
    </Alert>
  );
}

function Changes({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  return (
    <Table.ScrollContainer minWidth={420} type="native">
      <Table>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Option</Table.Th>
            <Table.Th>Now</Table.Th>
            <Table.Th>At the next start</Table.Th>
            <Table.Th>Revert</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.key}>
              <Table.Td>{row.key}</Table.Td>
              <Table.Td style={{ overflowWrap: "anywhere" }}>{row.value ?? "default"}</Table.Td>
              <Table.Td style={{ overflowWrap: "anywhere" }}>
                {row.delete ? <Text size="sm">removed</Text> : row.pending}
              </Table.Td>
              <Table.Td>
                <ActionButton action={revert(guest, [row.key])} size="compact-sm">
                  Revert
                </ActionButton>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
