/** Snapshots as a tree: where a branch begins, it is indented; the present state stands last. */
import { Badge, Group, Table, Text } from "@mantine/core";
import { IconArrowBackUp, IconCamera, IconPlayerPlay } from "@tabler/icons-react";
import { CURRENT, type SnapshotRow, type TreeRow } from "../logic/snapshots";
import { moment } from "../logic/units";
import { ActionMenu, type MenuEntry } from "./ActionMenu";

interface Props {
  tree: readonly TreeRow[];
  entries: (row: SnapshotRow) => readonly MenuEntry[];
}

export function SnapshotTable({ tree, entries }: Props) {
  return (
    <Table.ScrollContainer minWidth={620} type="native" tabIndex={0} role="region" aria-label="Snapshots">
      <Table aria-label="Snapshots" verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Snapshot</Table.Th>
            <Table.Th>Taken</Table.Th>
            <Table.Th>Came from</Table.Th>
            <Table.Th>Description</Table.Th>
            <Table.Th aria-label="Actions" w={50} />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {tree.map(({ row, depth }) =>
            row.name === CURRENT ? (
              <Now key={row.name} row={row} depth={depth} />
            ) : (
              <Kept key={row.name} row={row} depth={depth} entries={entries(row)} />
            ),
          )}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Now({ row, depth }: TreeRow) {
  return (
    <Table.Tr>
      <Table.Td pl={12 + 24 * depth}>
        <Group gap="xs" wrap="nowrap">
          <IconPlayerPlay size={16} aria-hidden />
          <Text size="sm" fw={700}>
            Now
          </Text>
          <Badge variant="default" tt="none">
            {row.running ? "running" : "stopped"}
          </Badge>
        </Group>
      </Table.Td>
      <Table.Td />
      <Table.Td>{row.parent}</Table.Td>
      <Table.Td>The guest as it is</Table.Td>
      <Table.Td />
    </Table.Tr>
  );
}

function Kept({ row, depth, entries }: TreeRow & { entries: readonly MenuEntry[] }) {
  return (
    <Table.Tr>
      <Table.Td pl={12 + 24 * depth}>
        <Group gap="xs" wrap="nowrap">
          {depth > 0 ? <IconArrowBackUp size={16} aria-label="branch" /> : <IconCamera size={16} aria-hidden />}
          <Text size="sm">{row.name}</Text>
          {Boolean(row.vmstate) && (
            <Badge variant="default" tt="none">
              with memory
            </Badge>
          )}
          {row.snapstate !== undefined && (
            <Badge color="yellow" tt="none">
              {`unfinished: ${row.snapstate}`}
            </Badge>
          )}
        </Group>
      </Table.Td>
      <Table.Td className="figures" style={{ whiteSpace: "nowrap" }}>
        {moment(row.snaptime)}
      </Table.Td>
      <Table.Td>{row.parent}</Table.Td>
      <Table.Td className="wrapped" maw={360}>
        {row.description?.trim()}
      </Table.Td>
      <Table.Td>
        <ActionMenu label={`Actions of snapshot ${row.name}`} entries={entries} />
      </Table.Td>
    </Table.Tr>
  );
}
