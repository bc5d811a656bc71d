/** How much of what it may have a guest uses now. */
import { Box, Paper, Stack, Title } from "@mantine/core";
import { UseBar } from "../../components/UseBar";
import type { GuestStatus } from "../../hooks/guest";
import { bytes, percent, share } from "../../logic/units";
import { Fact } from "./Facts";

export function Use({ status, kind }: { status: GuestStatus | undefined; kind: "lxc" | "qemu" }) {
  const { cpu, cpus, mem, maxmem, swap, maxswap, disk, maxdisk } = status ?? {};
  const of = (part: number | undefined, whole: number | undefined) => `${bytes(part)} of ${bytes(whole)}`;
  return (
    <Paper component="section" withBorder p="md" miw={0}>
      <Title order={2} size="h4" mb="sm">
        Use
      </Title>
      <Stack gap="sm">
        <UseBar
          label="CPU"
          part={Math.min(1, cpu ?? 0)}
          words={`${percent(cpu)} of ${cpus ?? "–"} ${cpus === 1 ? "CPU" : "CPUs"}`}
        />
        <UseBar label="Memory" part={share(mem, maxmem)} words={of(mem, maxmem)} />
        {kind === "lxc" && maxswap ? (
          <UseBar label="Swap" part={share(swap, maxswap)} words={of(swap, maxswap)} />
        ) : null}
        {kind === "lxc" ? (
          <UseBar label="Root file system" part={share(disk, maxdisk)} words={of(disk, maxdisk)} />
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
