/** At the foot of every page: what runs and what ran, and the log of the one that is chosen. */
import { Box, CloseButton, Group, ScrollArea, Table, Text, UnstyledButton } from "@mantine/core";
import { IconChevronDown, IconChevronUp } from "@tabler/icons-react";
import { useState } from "react";
import { type TaskRow, useTaskLog, useTasks } from "../hooks/tasks";
import { taskTitle } from "../logic/tasks";
import { duration, moment } from "../logic/units";
import { RowLink } from "./RowLink";
import classes from "./TaskDrawer.module.css";
import { TaskLogView } from "./TaskLogView";
import { TaskState } from "./TaskState";
import { useNow } from "./useNow";

interface Props {
  opened: boolean;
  onToggle: () => void;
}

export function TaskDrawer({ opened, onToggle }: Props) {
  const tasks = useTasks().data ?? [];
  const running = tasks.filter((task) => task.endtime === undefined);
  const [latest] = tasks;
  const Chevron = opened ? IconChevronDown : IconChevronUp;
  return (
    <Box component="section" aria-label="Tasks" className={classes.drawer}>
      <UnstyledButton className={classes.bar} onClick={onToggle} aria-expanded={opened}>
        <Chevron size={16} />
        <Text span size="sm" fw={600}>
          Tasks
        </Text>
        <Text span size="sm" role="status" {...(running.length === 0 && { c: "dimmed" })}>
          {running.length === 0 ? "none running" : `${running.length} running`}
        </Text>
        {latest !== undefined && !opened && <Latest task={latest} />}
      </UnstyledButton>
      {opened && <Opened tasks={tasks} />}
    </Box>
  );
}

function Latest({ task }: { task: TaskRow }) {
  return (
    <Group gap="xs" wrap="nowrap" ml="auto" miw={0} visibleFrom="xs">
      <Text span size="sm" truncate>
        {taskTitle(task)}
      </Text>
      <TaskState status={task.endtime === undefined ? undefined : task.status} />
    </Group>
  );
}

function Opened({ tasks }: { tasks: readonly TaskRow[] }) {
  const [chosen, setChosen] = useState<string>();
  const shown = tasks.find(({ upid }) => upid === chosen) ?? tasks.find(({ endtime }) => endtime === undefined);
  return (
    <div className={classes.opened}>
      <ScrollArea
        className={classes.list}
        type="auto"
        viewportProps={{ tabIndex: 0, role: "region", "aria-label": "Recent tasks" }}
      >
        <Rows tasks={tasks} shown={shown?.upid} onChoose={setChosen} />
      </ScrollArea>
      {shown !== undefined && (
        <Log key={shown.upid} task={shown} onClose={() => setChosen(undefined)} chosen={chosen === shown.upid} />
      )}
    </div>
  );
}

interface RowsProps {
  tasks: readonly TaskRow[];
  shown: string | undefined;
  onChoose: (upid: string) => void;
}

function Rows({ tasks, shown, onChoose }: RowsProps) {
  const now = useNow(tasks.some(({ endtime }) => endtime === undefined));
  if (tasks.length === 0) {
    return (
      <Text size="sm" c="dimmed" p="sm">
        No task has been run yet.
      </Text>
    );
  }
  return (
    <Table verticalSpacing={2} fz="sm" className="figures" miw={520}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Task</Table.Th>
          <Table.Th>State</Table.Th>
          <Table.Th>Began</Table.Th>
          <Table.Th>Took</Table.Th>
          <Table.Th>By</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {tasks.map((task) => (
          <Table.Tr key={task.upid} {...(task.upid === shown && { bg: "var(--mantine-primary-color-light)" })}>
            <Table.Td>
              <UnstyledButton
                className={classes.choose}
                aria-pressed={task.upid === shown}
                onClick={() => onChoose(task.upid)}
              >
                {taskTitle(task)}
              </UnstyledButton>
            </Table.Td>
            <Table.Td>
              <TaskState status={task.endtime === undefined ? undefined : task.status} />
            </Table.Td>
            <Table.Td className={classes.when}>{moment(task.starttime)}</Table.Td>
            <Table.Td className={classes.when}>{duration((task.endtime ?? now) - task.starttime)}</Table.Td>
            <Table.Td>{task.user}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Log({ task, chosen, onClose }: { task: TaskRow; chosen: boolean; onClose: () => void }) {
  const { lines, failure } = useTaskLog(task.upid);
  return (
    <section className={classes.log} aria-label={`Log of ${taskTitle(task)}`}>
      <Group gap="xs" wrap="nowrap" justify="space-between" px="xs">
        <RowLink className={classes.title} to={`/tasks/${encodeURIComponent(task.upid)}`}>
          {taskTitle(task)}
        </RowLink>
        {chosen && <CloseButton size={24} aria-label="Close the log" onClick={onClose} />}
      </Group>
      {failure !== undefined && (
        <Text size="sm" c="red" role="alert" px="xs">
          {failure}
        </Text>
      )}
      <TaskLogView lines={lines} />
    </section>
  );
}
