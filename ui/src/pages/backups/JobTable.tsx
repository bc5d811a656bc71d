/** Jobs as a table, with when each runs next. */
import { Anchor, Badge, List, Loader, Stack, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { ActionMenu, type MenuEntry } from "../../components/ActionMenu";
import type { Dialog } from "../../components/useDialog";
import { useIncluded } from "../../hooks/backupJobs";
import {
  enableJob,
  isEnabled,
  JOB_WORDS,
  type JobKind,
  type JobRow,
  removeJob,
  runJob,
  whomOf,
} from "../../logic/backupJobs";
import { moment } from "../../logic/units";

interface Entry {
  readonly kind: JobKind;
  readonly row: JobRow;
}

interface Props {
  node: string;
  rows: readonly Entry[];
  onEdit: (kind: JobKind, row: JobRow) => void;
  dialog: Dialog;
}

export function JobTable({ node, rows, onEdit, dialog }: Props) {
  if (rows.length === 0) {
    return <Text role="status">There are no jobs yet.</Text>;
  }
  function entries({ kind, row }: Entry): MenuEntry[] {
    const on = isEnabled(row);
    const guests = { title: `What ${row.id} saves`, content: <Included id={row.id} />, size: "lg" };
    return [
      { label: "Run now", action: runJob(kind, node, row) },
      { label: "Edit", open: () => onEdit(kind, row) },
      ...(kind === "backup" ? [{ label: "What it saves", open: () => dialog.open(guests) }] : []),
      { label: on ? "Disable" : "Enable", action: enableJob(kind, row.id, !on) },
      { label: "Remove", action: removeJob(kind, row.id) },
    ];
  }
  return (
    <Table.ScrollContainer minWidth={820} type="native" tabIndex={0} role="region" aria-label="Jobs">
      <Table aria-label="Jobs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Job</Table.Th>
            <Table.Th>What</Table.Th>
            <Table.Th>Schedule</Table.Th>
            <Table.Th>Next</Table.Th>
            <Table.Th>Of</Table.Th>
            <Table.Th>Storage</Table.Th>
            <Table.Th>Comment</Table.Th>
            <Table.Th aria-label="Actions" w={50} />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((entry) => (
            <Row key={`${entry.kind} ${entry.row.id}`} {...entry} entries={entries(entry)} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Row({ kind, row, entries }: Entry & { entries: readonly MenuEntry[] }) {
  const ran = row["last-run"] as { readonly upid?: string } | undefined;
  return (
    <Table.Tr>
      <Table.Td>
        <Text size="sm" fw={600}>
          {row.id}
        </Text>
        {ran?.upid !== undefined && (
          <Anchor component={Link} to={`/tasks/${encodeURIComponent(ran.upid)}`} size="xs">
            last run
          </Anchor>
        )}
      </Table.Td>
      <Table.Td>{JOB_WORDS[kind]}</Table.Td>
      <Table.Td>{row.schedule}</Table.Td>
      <Table.Td className="figures">
        {isEnabled(row) ? (
          row["next-run"] === undefined ? (
            "never"
          ) : (
            moment(row["next-run"])
          )
        ) : (
          <Badge variant="default" tt="none">
            disabled
          </Badge>
        )}
      </Table.Td>
      <Table.Td>{whomOf(kind, row)}</Table.Td>
      <Table.Td>{row.storage}</Table.Td>
      <Table.Td className="wrapped" maw={220}>
        {row.comment}
      </Table.Td>
      <Table.Td>
        <ActionMenu label={`Actions of job ${row.id}`} entries={entries} />
      </Table.Td>
    </Table.Tr>
  );
}

function Included({ id }: { id: string }) {
  const guests = useIncluded(id).data;
  if (guests === undefined) {
    return <Loader aria-label="Loading" />;
  }
  if (guests.length === 0) {
    return <Text>No guest at the moment.</Text>;
  }
  return (
    <Stack gap="sm">
      {guests.map((guest) => (
        <div key={guest.id}>
          <Text fw={600}>
            {guest.name ?? guest.id} ({guest.id}){guest.type === "unknown" && ": does not exist"}
          </Text>
          <List size="sm">
            {(guest.children ?? []).map((volume) => (
              <List.Item key={volume.id}>
                {volume.id}: {volume.included ? "saved" : `not saved (${volume.reason})`} – {volume.name}
              </List.Item>
            ))}
          </List>
        </div>
      ))}
    </Stack>
  );
}
