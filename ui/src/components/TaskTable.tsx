/** Tasks as a table of which only the rows in sight are in the document; asks for more near its end. */
import { Anchor, Box, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import type { TaskRow } from "../hooks/tasks";
import { taskTitle } from "../logic/tasks";
import { duration, moment } from "../logic/units";
import { TaskState } from "./TaskState";

const ROW_HEIGHT = 40;

interface Props {
  rows: readonly TaskRow[];
  onEnd: () => void;
}

export function TaskTable({ rows, onEnd }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  const items = seen.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  const nearEnd = rows.length > 0 && last >= rows.length - 20;
  useEffect(() => {
    if (nearEnd) {
      onEnd();
    }
  }, [nearEnd, onEnd]);
  const above = items[0]?.start ?? 0;
  const below = seen.getTotalSize() - (items.at(-1)?.end ?? 0);
  return (
    <Box ref={frame} mah="68vh" tabIndex={0} role="region" aria-label="List of tasks" style={{ overflow: "auto" }}>
      <Table stickyHeader miw={760}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>State</Table.Th>
            <Table.Th>Task</Table.Th>
            <Table.Th>Began</Table.Th>
            <Table.Th>Took</Table.Th>
            <Table.Th>User</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {above > 0 && <Table.Tr aria-hidden h={above} />}
          {items.map((item) => {
            const row = rows[item.index];
            return row && <Row key={row.upid} row={row} />;
          })}
          {below > 0 && <Table.Tr aria-hidden h={below} />}
        </Table.Tbody>
      </Table>
    </Box>
  );
}

function Row({ row }: { row: TaskRow }) {
  const took = (row.endtime ?? Date.now() / 1000) - row.starttime;
  return (
    <Table.Tr h={ROW_HEIGHT}>
      <Table.Td>
        <TaskState status={row.status} />
      </Table.Td>
      <Table.Td>
        <Anchor component={Link} to={`/tasks/${encodeURIComponent(row.upid)}`} size="sm">
          {taskTitle(row)}
        </Anchor>
      </Table.Td>
      <Table.Td className="figures">{moment(row.starttime)}</Table.Td>
      <Table.Td className="figures">{duration(took)}</Table.Td>
      <Table.Td>
        <Text size="sm">{row.user}</Text>
      </Table.Td>
    </Table.Tr>
  );
}
