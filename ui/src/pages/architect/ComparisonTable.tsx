/** The head-to-head table, with a bar for each figure: of a measure's two, the longer one is as long as the place. */
import { Box, Stack, Table, Text } from "@mantine/core";
import { WideTable } from "../../components/WideTable";
import type { Comparison } from "../../hooks/architect";
import { type Compared, compared, type Figure, median, ratioText, told } from "../../logic/comparison";
import classes from "./ComparisonTable.module.css";

export function ComparisonTable({ comparison }: { comparison: Comparison }) {
  const { ct, vm, native = {} } = comparison;
  const rows = compared(ct.figures ?? {}, vm?.figures ?? {}, native);
  const host = Object.keys(native).length > 0;
  const head = [
    "Measure",
    "Container",
    ...(vm ? [vm.emulated ? "VM, emulated" : "VM", "VM to container"] : []),
    ...(host ? ["Host"] : []),
    "Better is",
  ];
  return (
    <Stack gap="xs">
      <WideTable label="Measured, container against VM" head={head} minWidth={760}>
        {rows.map((row) => (
          <Row key={row.key} row={row} vm={vm !== null} host={host} />
        ))}
      </WideTable>
      <Text size="sm" c="dimmed">
        Median of the runs; smallest and largest in brackets.
        {vm && " The better one of a row is marked with ✓."}
      </Text>
    </Stack>
  );
}

function Row({ row, vm, host }: { row: Compared; vm: boolean; host: boolean }) {
  return (
    <Table.Tr>
      <Table.Th scope="row">{row.title}</Table.Th>
      <Cell figure={row.ct} other={row.vm} wins={row.winner === "ct"} kind="ct" />
      {vm && <Cell figure={row.vm} other={row.ct} wins={row.winner === "vm"} kind="vm" />}
      {vm && <Table.Td className="figures">{ratioText(row.ratio)}</Table.Td>}
      {host && <Table.Td className="figures">{told(row.native)}</Table.Td>}
      <Table.Td>{row.lessIsBetter ? "less" : "more"}</Table.Td>
    </Table.Tr>
  );
}

interface CellProps {
  figure: Figure | undefined;
  other: Figure | undefined;
  wins: boolean;
  kind: "ct" | "vm";
}

function Cell({ figure, other, wins, kind }: CellProps) {
  const own = figure === undefined ? 0 : median(figure.values);
  const most = other === undefined ? 0 : Math.max(own, median(other.values)); // one alone is not compared
  return (
    <Table.Td className="figures">
      <Text size="sm" {...(wins && { fw: 700 })}>
        {told(figure)}
        {wins && <span aria-hidden> ✓</span>}
        {wins && <span className={classes.hidden}>, the better one</span>}
      </Text>
      {figure !== undefined && most > 0 && (
        <Box className={classes[kind]} h={8} w={`${Math.max(0.5, (100 * own) / most)}%`} aria-hidden />
      )}
    </Table.Td>
  );
}
