/** A host's figures, now and over time. */
import { Group, Paper, SegmentedControl, SimpleGrid, Skeleton, Text, Title } from "@mantine/core";
import { memo, useState } from "react";
import { ApiError, told } from "../../api/errors";
import { Chart } from "../../components/Chart";
import { UseBar } from "../../components/UseBar";
import { useDaemon } from "../../hooks/creating";
import { type NodeStatus, type NodeTimeframe, useNodeSeries, useNodeStatus } from "../../hooks/host";
import { bytes, duration, percent, rate, share } from "../../logic/units";

const FRAMES: readonly { value: NodeTimeframe; label: string }[] = [
  { value: "hour", label: "Hour" },
  { value: "day", label: "Day" },
  { value: "week", label: "Week" },
  { value: "month", label: "Month" },
  { value: "year", label: "Year" },
];

export function NodeFigures({ node }: { node: string }) {
  const status = useNodeStatus(node);
  const [frame, setFrame] = useState<NodeTimeframe>("hour");
  const denied = status.error instanceof ApiError && status.error.status === 403;
  return (
    <section aria-labelledby={`node-${node}`}>
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id={`node-${node}`}>
          Host {node}
        </Title>
        {!denied && (
          <SegmentedControl
            size="xs"
            aria-label="Span of the charts"
            data={[...FRAMES]}
            value={frame}
            onChange={(value) => setFrame(value as NodeTimeframe)}
          />
        )}
      </Group>
      {status.error !== null && status.data === undefined ? (
        <Text size="sm" c="dimmed" role="status">
          {denied ? "The figures of the host are not yours to see." : told(status.error)}
        </Text>
      ) : (
        <>
          {status.data === undefined ? <Skeleton h={72} /> : <Now node={node} status={status.data} />}
          <OverTime node={node} frame={frame} />
        </>
      )}
    </section>
  );
}

function Now({ node, status }: { node: string; status: NodeStatus }) {
  const { cpu, cpuinfo, memory, rootfs, swap, loadavg, uptime } = status;
  const used = (one: { used: number; total: number }) => `${bytes(one.used)} of ${bytes(one.total)}`;
  const swaps = swap !== undefined && swap.total > 0;
  return (
    <Paper withBorder p="sm" mb="sm">
      <SimpleGrid cols={{ base: 1, xs: 2, lg: swaps ? 4 : 3 }} spacing="lg">
        <UseBar label="CPU" part={cpu} words={`${percent(cpu)} of ${cpuinfo.cpus} processors`} />
        <UseBar label="Memory" part={share(memory.used, memory.total)} words={used(memory)} />
        {swaps && <UseBar label="Swap" part={share(swap.used, swap.total)} words={used(swap)} />}
        <UseBar label="Root file system" part={share(rootfs.used, rootfs.total)} words={used(rootfs)} />
      </SimpleGrid>
      <Facts node={node} load={loadavg.join(" ")} uptime={uptime} />
    </Paper>
  );
}

function Facts({ node, load, uptime }: { node: string; load: string; uptime: number }) {
  const host = useDaemon().data;
  const virtual = host?.accelerator === "kvm" ? "VMs run by KVM" : host?.accelerator && "VMs are emulated";
  const now = useNodeSeries(node, "hour").data?.findLast(({ netin }) => netin !== undefined);
  const network = now && `Network ${rate(now.netin)} in, ${rate(now.netout)} out`;
  const facts = [network, `Load ${load}`, `Up ${duration(uptime)}`, host && `Bastide ${host.version}`, virtual];
  return (
    <Text size="sm" c="dimmed" mt="sm" className="figures">
      {facts.filter(Boolean).join(" · ")}
    </Text>
  );
}

const OverTime = memo(function OverTime({ node, frame }: { node: string; frame: NodeTimeframe }) {
  const rows = useNodeSeries(node, frame).data ?? [];
  const times = rows.map(({ time }) => time);
  const latest = rows.findLast(({ memtotal }) => memtotal !== undefined);
  const line = (label: string, key: "cpu" | "iowait" | "memused" | "netin" | "netout" | "rootused") => ({
    label,
    values: rows.map((row) => row[key]),
  });
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }} spacing="sm">
      <Chart
        title="CPU"
        times={times}
        lines={[line("CPU", "cpu"), line("Waiting for disks", "iowait")]}
        format={percent}
      />
      <Chart title="Memory" times={times} lines={[line("Used", "memused")]} format={bytes} whole={latest?.memtotal} />
      <Chart title="Network" times={times} lines={[line("In", "netin"), line("Out", "netout")]} format={rate} />
      <Chart
        title="Root file system"
        times={times}
        lines={[line("Used", "rootused")]}
        format={bytes}
        whole={latest?.roottotal}
      />
    </SimpleGrid>
  );
});
