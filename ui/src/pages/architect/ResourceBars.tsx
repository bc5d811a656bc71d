/** Processors, memory and storages as bars of what is promised, held back and free; the same figures as a table. */
import { Box, Group, Paper, Progress, Stack, Table, Text, Title } from "@mantine/core";
import { WideTable } from "../../components/WideTable";
import type { Capacity } from "../../hooks/architect";
import { type Part, parts, type Resource } from "../../logic/capacity";
import { bytes } from "../../logic/units";
import classes from "./ResourceBars.module.css";

interface Row {
  readonly title: string;
  readonly resource: Resource;
  readonly amount: (value: number) => string;
  readonly outlook?: string;
}

function rowsOf(capacity: Capacity): Row[] {
  const plain = (value: number) => String(Math.round(value * 10) / 10);
  const asResource = (one: Capacity["memory"]): Resource => ({ ...one, host: one.host ?? 0 });
  return [
    { title: "Processors, virtual", resource: asResource(capacity.cores), amount: plain },
    { title: "Memory", resource: asResource(capacity.memory), amount: bytes },
    ...capacity.storages.map((one) => ({
      title: `Storage ${one.storage}`,
      resource: asResource(one.space),
      amount: bytes,
      outlook: one.outlook.sentence,
    })),
  ];
}

export function ResourceBars({ capacity }: { capacity: Capacity }) {
  const rows = rowsOf(capacity);
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="room">
      <Title order={2} size="h3" id="room" mb="sm">
        Where the room goes
      </Title>
      <Stack>
        {rows.map((row) => (
          <Bar key={row.title} row={row} />
        ))}
        <Legend />
        <WideTable
          label="Where the room goes, in figures"
          head={["Of", "Total", "In use now", "Promised", "The host", "Headroom", "Free"]}
          minWidth={620}
        >
          {rows.map(({ title, resource, amount }) => (
            <Table.Tr key={title}>
              <Table.Th scope="row">{title}</Table.Th>
              {[resource.total, resource.used, resource.promised, resource.host, resource.spared, resource.free].map(
                (value, index) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: a table's columns stay as they are
                  <Table.Td key={index} className="figures">
                    {amount(value)}
                  </Table.Td>
                ),
              )}
            </Table.Tr>
          ))}
        </WideTable>
      </Stack>
    </Paper>
  );
}

function Bar({ row: { title, resource, amount, outlook } }: { row: Row }) {
  const told = parts(resource).map((part) => `${amount(part.amount)} ${part.title}`);
  return (
    <div>
      <Group justify="space-between" gap="xs">
        <Text fw={600} size="sm">
          {title}
        </Text>
        <Text size="sm" className="figures">
          {amount(resource.free)} free of {amount(resource.total)}
        </Text>
      </Group>
      <Progress.Root size={18} role="img" aria-label={`${title}: ${told.join(", ")}`}>
        {parts(resource).map((part) => (
          <Progress.Section key={part.key} value={part.share} className={classes[part.key]} withAria={false} />
        ))}
      </Progress.Root>
      {outlook && (
        <Text size="sm" c="dimmed">
          {outlook}
        </Text>
      )}
    </div>
  );
}

const LEGEND: readonly (readonly [Part["key"], string])[] = [
  ["promised", "promised to guests"],
  ["host", "the host and what else it keeps"],
  ["spared", "headroom"],
  ["free", "free"],
];

function Legend() {
  return (
    <Group gap="md" aria-hidden>
      {LEGEND.map(([key, title]) => (
        <Group key={key} gap={6} wrap="nowrap">
          <Box w={16} h={16} className={classes[key]} />
          <Text size="sm">{title}</Text>
        </Group>
      ))}
    </Group>
  );
}
