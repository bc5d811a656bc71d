/** What was done with a guest, newest first. */
import { Alert, Anchor, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { told } from "../../api/errors";
import { useGuestTasks } from "../../hooks/guestTasks";
import type { GuestRow } from "../../hooks/resources";
import type { TaskRow } from "../../hooks/tasks";
import { duration, moment } from "../../logic/units";

export function Tasks({ guest }: { guest: GuestRow }) {
  const { data, error, isPending } = useGuestTasks(guest);
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  if (isPending) {
    return <Text size="sm">Loading …</Text>;
  }
  return data.length === 0 ? <Text size="sm">No task is known of this guest.</Text> : <TaskTable rows={data} />;
}

function TaskTable({ rows }: { rows: readonly TaskRow[] }) {
  return (
    <Table.ScrollContainer minWidth={560} type="native">
      <Table aria-label="Tasks of this guest">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Started</Table.Th>
            <Table.Th>Task</Table.Th>
            <Table.Th>User</Table.Th>
            <Table.Th>Took</Table.Th>
            <Table.Th>Result</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.upid}>
              <Table.Td className="figures">{moment(row.starttime)}</Table.Td>
              <Table.Td>
                <Anchor component={Link} to={`/tasks/${encodeURIComponent(row.upid)}`} size="sm">
                  {row.type}
                </Anchor>
              </Table.Td>
              <Table.Td>{row.user}</Table.Td>
              <Table.Td className="figures">
                {row.endtime === undefined ? "–" : duration(row.endtime - row.starttime)}
              </Table.Td>
              <Table.Td style={{ overflowWrap: "anywhere" }}>{row.status ?? "running"}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
