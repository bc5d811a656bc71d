/** Guests as a table of which only the rows in sight are in the document. */
import { Anchor, Badge, Box, Table } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import type { GuestRow } from "../hooks/resources";

const ROW_HEIGHT = 40;

export function GuestTable({ rows }: { rows: readonly GuestRow[] }) {
  const frame = useRef<HTMLDivElement>(null);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  const items = seen.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = seen.getTotalSize() - (items[items.length - 1]?.end ?? 0);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <Box ref={frame} mah="70vh" tabIndex={0} role="region" aria-label="Guests" style={{ overflow: "auto" }}>
      <Table stickyHeader aria-rowcount={rows.length}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>ID</Table.Th>
            <Table.Th>Name</Table.Th>
            <Table.Th>Kind</Table.Th>
            <Table.Th>State</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {above > 0 && <Table.Tr aria-hidden h={above} />}
          {items.map((item) => {
            const row = rows[item.index] as GuestRow;
            return (
              <Table.Tr key={row.vmid} h={ROW_HEIGHT} aria-rowindex={item.index + 1}>
                <Table.Td className="figures">{row.vmid}</Table.Td>
                <Table.Td>
                  <Anchor component={Link} to={`/guests/${row.vmid}/summary`}>
                    {row.name ?? row.vmid}
                  </Anchor>
                </Table.Td>
                <Table.Td>{row.type === "lxc" ? "CT" : "VM"}</Table.Td>
                <Table.Td>
                  <Badge variant="light" color={row.status === "running" ? "green" : "gray"}>
                    {row.status}
                  </Badge>
                </Table.Td>
              </Table.Tr>
            );
          })}
          {below > 0 && <Table.Tr aria-hidden h={below} />}
        </Table.Tbody>
      </Table>
    </Box>
  );
}
