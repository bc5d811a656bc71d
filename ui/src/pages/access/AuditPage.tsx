/** Who did what from where, and what came of it. */
import { Alert, Anchor, Badge, Checkbox, Group, Loader, Select, Stack, Table, Text, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { Link } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import { told } from "../../api/errors";
import { type RowPlace, VirtualTable } from "../../components/VirtualTable";
import { type AuditRow, useAudit } from "../../hooks/audit";
import { type AuditEvent, type AuditFilter, asLine, EVENTS, type Outcome, outcomeOf } from "../../logic/audit";
import { moment } from "../../logic/units";
import { AccessFrame } from "./AccessFrame";

const COLORS: Readonly<Record<Outcome, string>> = { done: "green", refused: "yellow", failed: "red" };
const NOBODY: AuditFilter = { user: "", path: "", failed: false };

export function AuditPage() {
  const [filter, setFilter] = useState(NOBODY);
  const [wanted] = useDebouncedValue(filter, 250);
  const list = useAudit(wanted);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = list;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) {
      void fetchNextPage();
    }
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <AccessFrame
      title="Audit log"
      about="Every change, login and console: who, from where, and what came of it. No secret is in it."
    >
      <Stack>
        <Filters filter={filter} onChange={(change) => setFilter({ ...filter, ...change })} />
        {list.error !== null && (
          <Alert color="red" role="alert">
            {told(list.error)}
          </Alert>
        )}
        {list.data === undefined ? (
          list.error === null && <Loader aria-label="Loading" />
        ) : list.data.length === 0 ? (
          <Text role="status">Nothing that was done is like this.</Text>
        ) : (
          <AuditTable rows={list.data} onEnd={more} />
        )}
      </Stack>
    </AccessFrame>
  );
}

function Filters({ filter, onChange }: { filter: AuditFilter; onChange: (change: Partial<AuditFilter>) => void }) {
  return (
    <Group component="search" gap="sm" align="flex-end">
      <TextInput
        label="User or token"
        placeholder="Any"
        w={180}
        value={filter.user}
        onChange={(event) => onChange({ user: event.currentTarget.value })}
      />
      <TextInput
        label="Part of the path"
        placeholder="/lxc/100/"
        w={200}
        value={filter.path}
        onChange={(event) => onChange({ path: event.currentTarget.value })}
      />
      <Select
        label="What"
        placeholder="Any"
        clearable
        w={140}
        data={Object.entries(EVENTS).map(([value, label]) => ({ value, label }))}
        value={filter.event ?? null}
        onChange={(event) => onChange({ event: (event ?? undefined) as AuditEvent | undefined })}
      />
      <Checkbox
        label="Refused or failed alone"
        mb={8}
        checked={filter.failed}
        onChange={(event) => onChange({ failed: event.currentTarget.checked })}
      />
    </Group>
  );
}

function AuditTable({ rows, onEnd }: { rows: readonly AuditRow[]; onEnd: () => void }) {
  return (
    <VirtualTable
      label="Audit log"
      rows={rows}
      height={56}
      maxHeight="68vh"
      minWidth={900}
      onEnd={onEnd}
      head={
        <>
          <Table.Th>When</Table.Th>
          <Table.Th>Who</Table.Th>
          <Table.Th>From</Table.Th>
          <Table.Th>What</Table.Th>
          <Table.Th>Came of it</Table.Th>
        </>
      }
      render={(row, place) => <Row key={row.id} row={row} place={place} />}
    />
  );
}

function Row({ row, place }: { row: AuditRow; place: RowPlace }) {
  return (
    <Table.Tr {...place}>
      <Table.Td className="figures">{moment(row.time)}</Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{row.user || "unknown"}</Table.Td>
      <Table.Td className="figures">{row.address}</Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>
        <Text size="sm">
          {EVENTS[row.event]}: {row.method} {row.path}
        </Text>
        <Text size="xs" c="dimmed" lineClamp={2}>
          {asLine(row.parameters)}
        </Text>
      </Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>
        <Result row={row} />
      </Table.Td>
    </Table.Tr>
  );
}

function Result({ row }: { row: AuditRow }) {
  const outcome = outcomeOf(row.status);
  return (
    <Stack gap={2} align="flex-start">
      <Badge variant="light" color={COLORS[outcome]}>
        {outcome}
      </Badge>
      {row.error !== undefined && <Text size="xs">{row.error}</Text>}
      {row.upid !== undefined && (
        <Anchor component={Link} to={`/tasks/${encodeURIComponent(row.upid)}`} size="xs">
          Its task
        </Anchor>
      )}
    </Stack>
  );
}
