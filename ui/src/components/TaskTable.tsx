/** Tasks as a table that asks for more near its end. */
import { Anchor, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { TaskRow } from "../hooks/tasks";
import { taskTitle } from "../logic/tasks";
import { duration, moment } from "../logic/units";
import { TaskState } from "./TaskState";
import { type RowPlace, VirtualTable } from "./VirtualTable";

interface Props {
  rows: readonly TaskRow[];
  onEnd: () => void;
}

export function TaskTable({ rows, onEnd }: Props) {
  return (
    <VirtualTable
      label="List of tasks"
      rows={rows}
      height={40}
      maxHeight="68vh"
      minWidth={760}
      onEnd={onEnd}
      head={
        <>
          <Table.Th>State</Table.Th>
          <Table.Th>Task</Table.Th>
          <Table.Th>Began</Table.Th>
          <Table.Th>Took</Table.Th>
          <Table.Th>User</Table.Th>
        </>
      }
      render={(row, place) => <Row key={row.upid} row={row} place={place} />}
    />
  );
}

function Row({ row, place }: { row: TaskRow; place: RowPlace }) {
  const took = (row.endtime ?? Date.now() / 1000) - row.starttime;
  return (
    <Table.Tr {...place}>
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
