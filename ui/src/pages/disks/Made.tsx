/** Folders, volume groups and pools that were made of disks. */
import { Table, Text } from "@mantine/core";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useMade } from "../../hooks/disks";
import { MADE_LABELS, unmake } from "../../logic/disks";
import { bytes } from "../../logic/units";

const HEAD = ["Name", "Kind", "Size", "Free", "Of", "Remove"];

export function Made({ node }: { node: string }) {
  return (
    <Asked query={useMade(node)}>
      {(rows) =>
        rows.length === 0 ? (
          <Text>Nothing was made of this host's disks.</Text>
        ) : (
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
        )
      }
    </Asked>
  );
}
