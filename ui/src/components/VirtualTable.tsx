/** A table of which only the rows in sight are in the document. */
import { Box, Table } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useEffect, useRef } from "react";

const OVERSCAN = 12;
/** Rows before the last one from which on more are asked for. */
const NEAR = 20;

/** What the element of a row gets, so that its height and its place among all are known. */
export interface RowPlace {
  readonly h: number;
  readonly ref: (element: HTMLTableRowElement | null) => void;
  readonly "data-index": number;
  readonly "aria-rowindex": number;
}

interface Props<R> {
  label: string;
  rows: readonly R[];
  /** The row of headings. */
  head: ReactNode;
  /** A row's height in pixels, before it is measured. */
  height: number;
  maxHeight: string;
  minWidth: number;
  render: (row: R, place: RowPlace) => ReactNode;
  onEnd?: () => void;
}

export function VirtualTable<R>({ label, rows, head, height, maxHeight, minWidth, render, onEnd }: Props<R>) {
  const frame = useRef<HTMLDivElement>(null);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => height,
    overscan: OVERSCAN,
  });
  const items = seen.getVirtualItems();
  const nearEnd = rows.length > 0 && (items.at(-1)?.index ?? 0) >= rows.length - NEAR;
  useEffect(() => {
    if (nearEnd) {
      onEnd?.();
    }
  }, [nearEnd, onEnd]);
  const above = items[0]?.start ?? 0;
  const below = seen.getTotalSize() - (items.at(-1)?.end ?? 0);
  return (
    <Box ref={frame} mah={maxHeight} tabIndex={0} role="region" aria-label={label} style={{ overflow: "auto" }}>
      <Table stickyHeader miw={minWidth} aria-rowcount={rows.length + 1}>
        <Table.Thead>
          <Table.Tr aria-rowindex={1}>{head}</Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {above > 0 && <Table.Tr aria-hidden h={above} />}
          {items.map(({ index }) => {
            const row = rows[index];
            return (
              row &&
              render(row, { h: height, ref: seen.measureElement, "data-index": index, "aria-rowindex": index + 2 })
            );
          })}
          {below > 0 && <Table.Tr aria-hidden h={below} />}
        </Table.Tbody>
      </Table>
    </Box>
  );
}
