/** Folders, volume groups and pools that were made of disks. */
import { Stack, Table, Text } from "@mantine/core";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useMade } from "../../hooks/disks";
import { MADE_LABELS, type MadeRow, unmake } from "../../logic/disks";
import { bytes } from "../../logic/units";

const HEAD = ["Name", "Kind", "Size", "Free", "Of", "Remove"];

export function Made({ node }: { node: string }) {
  return (
    <Asked query={useMade(node)}>
      {({ rows, reasons }) => (
        <Stack gap="xs">
          {reasons.map((reason) => (
            <Text key={reason} size="sm">
              {reason}
            </Text>
          ))}
          {rows.length === 0 ? (
            <Text>Nothing was made of this host's disks.</Text>
          ) : (
            <MadeTable node={node} rows={rows} />
          )}
        </Stack>
      )}
    </Asked>
  );
}

function MadeTable({ node, rows }: { node: string; rows: readonly MadeRow[] }) {
  return (
    <WideTable label="Made of disks" head={HEAD} minWidth={640}>
      {rows.map((row) => (
        <Table.Tr key={`${row.kind} ${row.group ?? ""} ${row.name}`}>
          <Table.Td>{row.name}</Table.Td>
          <Table.Td>{MADE_LABELS[row.kind]}</Table.Td>
          <Table.Td className="figures">{bytes(row.size)}</Table.Td>
          <Table.Td className="figures">{bytes(row.free)}</Table.Td>
          <Table.Td>{row.of}</Table.Td>
          <Table.Td>
            <ActionButton action={unmake(node, row)} size="compact-sm">
              Remove
            </ActionButton>
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}
