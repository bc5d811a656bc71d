/** How much of what it may have a guest uses now. */
import { Box, Group, Paper, Progress, Stack, Text, Title } from "@mantine/core";
import type { GuestStatus } from "../../hooks/guest";
import { bytes, percent, share } from "../../logic/units";
import { Fact } from "./Facts";

const HIGH = 0.9;

function Meter({ label, part, text }: { label: string; part: number; text: string }) {
  return (
    <div>
      <Group justify="space-between" gap="xs" mb={2}>
        <Text size="sm">{label}</Text>
        <Text size="sm" className="figures">
          {text}
        </Text>
      </Group>
      <Progress.Root size="sm">
        <Progress.Section
          value={part * 100}
          color={part > HIGH ? "red" : "blue"}
          aria-label={label}
          aria-valuetext={text}
        />
      </Progress.Root>
    </div>
  );
}

export function Use({ status, kind }: { status: GuestStatus | undefined; kind: "lxc" | "qemu" }) {
  const { cpu, cpus, mem, maxmem, swap, maxswap, disk, maxdisk } = status ?? {};
  const of = (part: number | undefined, whole: number | undefined) => `${bytes(part)} of ${bytes(whole)}`;
  return (
    <Paper component="section" withBorder p="md" miw={0}>
      <Title order={2} size="h4" mb="sm">
        Use
      </Title>
      <Stack gap="sm">
        <Meter label="CPU" part={Math.min(1, cpu ?? 0)} text={`${percent(cpu)} of ${cpus ?? "–"} CPUs`} />
        <Meter label="Memory" part={share(mem, maxmem)} text={of(mem, maxmem)} />
        {kind === "lxc" && maxswap ? <Meter label="Swap" part={share(swap, maxswap)} text={of(swap, maxswap)} /> : null}
        {kind === "lxc" ? (
          <Meter label="Root file system" part={share(disk, maxdisk)} text={of(disk, maxdisk)} />
        ) : null}
        <Box component="dl" m={0}>
          {kind === "qemu" && <Fact label="Disk">{bytes(maxdisk)}</Fact>}
          <Fact label="Network">
            {bytes(status?.netin)} in, {bytes(status?.netout)} out since its start
          </Fact>
          <Fact label="Disk traffic">
            {bytes(status?.diskread)} read, {bytes(status?.diskwrite)} written since its start
          </Fact>
        </Box>
      </Stack>
    </Paper>
  );
}
