/** One task: what it is about, its log, its end. */
import { Alert, Anchor, Button, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { Link, useParams } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { TaskLogView } from "../../components/TaskLogView";
import { TaskState } from "../../components/TaskState";
import { downloading } from "../../hooks/downloads";
import { useGuest } from "../../hooks/resources";
import { type TaskStatus, useTaskLog } from "../../hooks/tasks";
import { type Action, path, shellCommand } from "../../logic/actions";
import { nameOf } from "../../logic/guestActions";
import { outcomeOf, taskTitle } from "../../logic/tasks";
import { moment } from "../../logic/units";

export function TaskPage() {
  const { upid } = useParams({ from: "/tasks/$upid" });
  const { lines, status, failure } = useTaskLog(upid);
  return (
    <Stack>
      <Title order={1} size="h2">
        {status === undefined ? "Task" : taskTitle(status)}
      </Title>
      {failure !== undefined && (
        <Alert color="red" role="alert">
          {failure}
        </Alert>
      )}
      {status === undefined && failure === undefined && <Loader aria-label="Loading" />}
      {status !== undefined && (
        <>
          <Facts task={status} />
          <End task={status} />
          <TaskLogView lines={lines} />
        </>
      )}
    </Stack>
  );
}

function Facts({ task }: { task: TaskStatus }) {
  const log = `${path`/api2/json/nodes/${task.node}/tasks/${task.upid}/log`}?download=1`;
  return (
    <Group justify="space-between" align="flex-start">
      <Stack gap={4} miw={0}>
        <Group gap="md">
          <span role="status">
            <TaskState status={task.status === "running" ? undefined : task.exitstatus} />
          </span>
          <Text size="sm">
            began {moment(task.starttime)} on {task.node}, by {task.user}
          </Text>
          <OfGuest id={task.id} />
        </Group>
        <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {task.upid}
        </Text>
      </Stack>
      <Group gap="xs">
        <Button component="a" {...downloading(log)} variant="default" leftSection={<IconDownload size={16} />}>
          Download log
        </Button>
        {task.status === "running" && <ActionButton action={stopTask(task)}>Stop</ActionButton>}
      </Group>
    </Group>
  );
}

function OfGuest({ id }: { id: string }) {
  const guest = useGuest(Number(id));
  if (guest === undefined) {
    return null;
  }
  return (
    <Anchor component={Link} to={`/guests/${guest.vmid}/summary`} size="sm">
      {nameOf(guest)}
    </Anchor>
  );
}

function End({ task }: { task: TaskStatus }) {
  const outcome = task.status === "running" ? "running" : outcomeOf(task.exitstatus);
  if (outcome === "ok" || outcome === "running") {
    return null;
  }
  return (
    <Alert color={outcome === "error" ? "red" : "yellow"} role={outcome === "error" ? "alert" : "status"}>
      {task.exitstatus}
    </Alert>
  );
}

function stopTask(task: TaskStatus): Action {
  return {
    title: `Stop task: ${taskTitle(task)}`,
    method: "DELETE",
    path: path`/nodes/${task.node}/tasks/${task.upid}`,
    command: shellCommand("bastide", "task", "stop", task.upid),
    danger: true,
    loses: ["It undoes what it has made so far."],
  };
}
