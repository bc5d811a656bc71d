/** Pressure: the share of the time in which work waited for something. */
import { Paper, SimpleGrid, Text, Title } from "@mantine/core";
import type { GuestStatus, Pressure } from "../../hooks/guest";

const KINDS: readonly (readonly [keyof Pressure, string])[] = [
  ["pressurecpusome", "CPU"],
  ["pressurememorysome", "Memory, some"],
  ["pressurememoryfull", "Memory, all"],
  ["pressureiosome", "Disk, some"],
  ["pressureiofull", "Disk, all"],
];

export function Pressures({ status }: { status: GuestStatus | undefined }) {
  const known = KINDS.filter(([key]) => status?.[key] !== undefined);
  if (known.length === 0) {
    return null;
  }
  return (
    <Paper component="section" withBorder p="md">
      <Title order={2} size="h4">
        Pressure
      </Title>
      <Text size="sm" c="dimmed" mb="sm">
        The share of the last seconds in which some or all of its work waited for a resource.
      </Text>
      <SimpleGrid component="dl" cols={{ base: 2, sm: 5 }} m={0}>
        {known.map(([key, label]) => (
          <div key={key}>
            <Text component="dt" size="sm" c="dimmed">
              {label}
            </Text>
            <Text component="dd" m={0} className="figures">
              {Number(status?.[key] ?? 0).toFixed(1)} %
            </Text>
          </div>
        ))}
      </SimpleGrid>
    </Paper>
  );
}
