/** What runs by itself: backups, verifications, restore tests; and the guests that no job saves. */
import { Alert, Anchor, Button, Group, Menu, Stack, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { told } from "../../api/errors";
import { useDialog } from "../../components/useDialog";
import { useJobs, useNotBackedUp } from "../../hooks/backupJobs";
import { JOB_WORDS, type JobKind, type JobRow } from "../../logic/backupJobs";
import { JobForm } from "./JobForm";
import { JobTable } from "./JobTable";

const KINDS: readonly JobKind[] = ["backup", "verify", "test"];

export function Jobs({ node }: { node: string }) {
  const lists = [useJobs("backup"), useJobs("verify"), useJobs("test")];
  const dialog = useDialog();
  const rows = KINDS.flatMap((kind, index) => (lists[index]?.data ?? []).map((row) => ({ kind, row })));
  const error = lists.find((list) => list.error !== null)?.error;

  function edit(kind: JobKind, row?: JobRow): void {
    const title = row === undefined ? `New ${JOB_WORDS[kind].toLowerCase()} job` : `Job ${row.id}`;
    dialog.open({ title, size: "lg", content: <JobForm node={node} kind={kind} row={row} onDone={dialog.close} /> });
  }

  return (
    <Stack>
      <Group justify="space-between">
        <Text>Jobs make, verify and try backups at times of their own.</Text>
        <Menu>
          <Menu.Target>
            <Button leftSection={<IconPlus size={16} />}>New job</Button>
          </Menu.Target>
          <Menu.Dropdown>
            {KINDS.map((kind) => (
              <Menu.Item key={kind} onClick={() => edit(kind)}>
                {JOB_WORDS[kind]}
              </Menu.Item>
            ))}
          </Menu.Dropdown>
        </Menu>
      </Group>
      {error && (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
      <Unsaved />
      <JobTable node={node} rows={rows} onEdit={edit} dialog={dialog} />
      {dialog.element}
    </Stack>
  );
}

function Unsaved() {
  const guests = useNotBackedUp().data ?? [];
  if (guests.length === 0) {
    return null;
  }
  const shown = guests.slice(0, 20);
  return (
    <Alert
      color="yellow"
      role="status"
      title={`No enabled job saves ${guests.length === 1 ? "one guest" : `${guests.length} guests`}`}
    >
      <Group gap="xs">
        {shown.map((guest) => (
          <Anchor
            key={guest.vmid}
            component={Link}
            to={`/guests/${guest.vmid}/backups`}
            size="sm"
            c="inherit"
            underline="always"
          >
            {guest.name ?? guest.vmid}
          </Anchor>
        ))}
        {guests.length > shown.length && <Text size="sm">and {guests.length - shown.length} more</Text>}
      </Group>
    </Alert>
  );
}
