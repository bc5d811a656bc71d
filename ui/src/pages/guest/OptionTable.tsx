/** Options with what they are, what waits for the next start, and how to change or revert them. */
import { ActionIcon, Group, Stack, Table, Text } from "@mantine/core";
import { IconPencil } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Needing } from "../../components/Denied";
import type { GuestRow } from "../../hooks/resources";
import { placeOf } from "../../logic/guestActions";
import { revert } from "../../logic/guestConfig";
import type { ShownOption } from "../../logic/guestOptions";

interface Props {
  guest: GuestRow;
  label: string;
  rows: readonly ShownOption[];
  onEdit?: (id: string) => void;
  /** What a row offers instead of a button to edit it. */
  offered?: (row: ShownOption) => ReactNode;
  waitingKeys: ReadonlySet<string>;
}

export function OptionTable({ guest, label, rows, onEdit, offered, waitingKeys }: Props) {
  return (
    <Table.ScrollContainer minWidth={320} type="native">
      <Table aria-label={label} verticalSpacing={6}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="30%">Option</Table.Th>
            <Table.Th>Value</Table.Th>
            <Table.Th w={60}>Change</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.id}>
              <Table.Th scope="row" fw={500}>
                {row.label}
              </Table.Th>
              <Table.Td style={{ overflowWrap: "anywhere" }}>
                <Value guest={guest} row={row} waitingKeys={waitingKeys} />
              </Table.Td>
              <Table.Td>
                {offered?.(row)}
                {onEdit !== undefined && (
                  <Needing wanted={{ method: "PUT", path: `${placeOf(guest)}/config` }}>
                    <ActionIcon
                      variant="default"
                      size={30}
                      aria-label={`Edit ${row.label}`}
                      onClick={() => onEdit(row.id)}
                    >
                      <IconPencil size={16} />
                    </ActionIcon>
                  </Needing>
                )}
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Value({ guest, row, waitingKeys }: Pick<Props, "guest" | "waitingKeys"> & { row: ShownOption }) {
  return (
    <Stack gap={4}>
      <Text size="sm" {...(!row.set && { c: "dimmed" })}>
        {row.now}
      </Text>
      {row.waits !== undefined && (
        <Group gap="xs">
          <Text size="sm" fw={600}>
            At the next start: {row.waits}
          </Text>
          <ActionButton
            action={revert(
              guest,
              row.keys.filter((key) => waitingKeys.has(key)),
            )}
            size="compact-xs"
            plain
          >
            Revert
          </ActionButton>
        </Group>
      )}
    </Stack>
  );
}
