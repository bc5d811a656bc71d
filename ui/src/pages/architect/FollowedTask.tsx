/** A task that was begun on this page: its log as it grows, and its end. */
import { Alert, Anchor, Group, Paper, Stack, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { TaskLogView } from "../../components/TaskLogView";
import { TaskState } from "../../components/TaskState";
import { useTaskLog } from "../../hooks/tasks";
import { outcomeOf } from "../../logic/tasks";

export function FollowedTask({ upid, title }: { upid: string; title: string }) {
  const { lines, status, failure } = useTaskLog(upid);
  const end = status?.status === "stopped" ? status.exitstatus : undefined;
  const wrong = failure ?? (outcomeOf(end) === "error" ? end : undefined);
  return (
    <Paper withBorder p="md" component="section" aria-label={title}>
      <Stack gap="sm">
        <Group role="status">
          <Title order={3} size="h4">
            {title}
          </Title>
          <TaskState status={end} />
        </Group>
        {wrong !== undefined && (
          <Alert color="red" role="alert" className="wrapped">
            {wrong}
          </Alert>
        )}
        <TaskLogView lines={lines} />
        <Anchor component={Link} to={`/tasks/${encodeURIComponent(upid)}`}>
          The task
        </Anchor>
      </Stack>
    </Paper>
  );
}
