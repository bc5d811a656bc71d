/** Everything that was done and is being done. */
import { Alert, Group, Loader, Select, Stack, Text, TextInput, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback } from "react";
import { told } from "../../api/errors";
import { TaskTable } from "../../components/TaskTable";
import { useNodeNames } from "../../hooks/nodes";
import { useGuests } from "../../hooks/resources";
import { useTaskList } from "../../hooks/taskList";
import { nameOf } from "../../logic/guestActions";
import { TASK_TYPES, type TaskSearch, taskSearch } from "../../logic/tasks";

export function TasksPage() {
  const nodes = useNodeNames() ?? [];
  // The router hands on what the route's own reading of the address left out, too.
  const filter = taskSearch(useSearch({ from: "/tasks" }));
  const navigate = useNavigate({ from: "/tasks" });
  const [user] = useDebouncedValue(filter.user, 250);
  const list = useTaskList(filter.node ?? nodes[0], {
    vmid: filter.guest === undefined ? undefined : Number(filter.guest),
    type: filter.type,
    outcome: filter.state,
    user,
  });
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = list;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) {
      void fetchNextPage();
    }
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <Stack>
      <Title order={1}>Tasks</Title>
      <Filters
        filter={filter}
        nodes={nodes}
        onChange={(key, value) => void navigate({ search: taskSearch({ ...filter, [key]: value }), replace: true })}
      />
      {list.error !== null && (
        <Alert color="red" role="alert">
          {told(list.error)}
        </Alert>
      )}
      {list.data === undefined ? (
        list.error === null && <Loader aria-label="Loading" />
      ) : list.data.length === 0 ? (
        <Text role="status">No tasks are like this.</Text>
      ) : (
        <TaskTable rows={list.data} onEnd={more} />
      )}
    </Stack>
  );
}

const TYPES = Object.entries(TASK_TYPES)
  .map(([value, label]) => ({ value, label: `${label} (${value})` }))
  .sort((a, b) => a.label.localeCompare(b.label));

interface FiltersProps {
  filter: TaskSearch;
  nodes: readonly string[];
  onChange: (key: keyof TaskSearch, value: string | null) => void;
}

function Filters({ filter, nodes, onChange }: FiltersProps) {
  const guests = useGuests().data ?? [];
  const named = guests.map((row) => ({ value: String(row.vmid), label: `${nameOf(row)} (${row.vmid})` }));
  return (
    <Group component="search" gap="sm" align="flex-end">
      {nodes.length > 1 && (
        <Select
          label="Node"
          data={nodes}
          value={filter.node ?? nodes[0] ?? null}
          onChange={(node) => onChange("node", node)}
        />
      )}
      <Select
        label="State"
        placeholder="Any"
        clearable
        w={140}
        data={[
          { value: "running", label: "Running" },
          { value: "ok", label: "OK" },
          { value: "warning", label: "Warnings" },
          { value: "error", label: "Failed" },
        ]}
        value={filter.state ?? null}
        onChange={(state) => onChange("state", state)}
      />
      <Select
        label="Guest"
        placeholder="Any"
        clearable
        searchable
        limit={100}
        w={200}
        data={named}
        value={filter.guest ?? null}
        onChange={(guest) => onChange("guest", guest)}
      />
      <Select
        label="Type"
        placeholder="Any"
        clearable
        searchable
        w={240}
        data={TYPES}
        value={filter.type ?? null}
        onChange={(type) => onChange("type", type)}
      />
      <TextInput
        label="User"
        placeholder="Any"
        w={160}
        value={filter.user ?? ""}
        onChange={(event) => onChange("user", event.currentTarget.value)}
      />
    </Group>
  );
}
