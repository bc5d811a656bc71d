/** What the task that makes a guest says while it runs. */
import { Group, Loader, Stack, Text } from "@mantine/core";
import { useTaskLog } from "../../hooks/tasks";
import { TaskLogView } from "../TaskLogView";

export function CreationLog({ upid, doing }: { upid: string; doing: string | undefined }) {
  const { lines } = useTaskLog(upid);
  return (
    <Stack gap="xs">
      {doing !== undefined && (
        <Group gap="xs" role="status">
          <Loader size="sm" aria-hidden />
          <Text>{doing}</Text>
        </Group>
      )}
      <TaskLogView lines={lines} />
    </Stack>
  );
}
