/** A table of few rows, which scrolls sideways by itself where the page is narrow. */
import { Box, Table } from "@mantine/core";
import type { ReactNode } from "react";

interface Props {
  label: string;
  head: readonly ReactNode[];
  children: ReactNode;
  minWidth?: number;
}

export function WideTable({ label, head, children, minWidth = 480 }: Props) {
  // Positioned, because words for screen readers alone are placed absolutely and would widen the whole page.
  return (
    <Box role="region" aria-label={label} tabIndex={0} pos="relative" style={{ overflowX: "auto" }}>
      <Table miw={minWidth} verticalSpacing={6} highlightOnHover>
        <Table.Thead>
          <Table.Tr>
            {head.map((cell, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: a table's columns stay as they are
              <Table.Th key={index}>{cell}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>{children}</Table.Tbody>
      </Table>
    </Box>
  );
}
