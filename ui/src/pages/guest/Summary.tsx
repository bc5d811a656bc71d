/** What a guest does now and did over time. */
import { Group, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useAddresses, useStatus } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { duration } from "../../logic/units";
import { AgentFacts } from "./AgentFacts";
import { Fact, Facts } from "./Facts";
import { GuestCharts } from "./GuestCharts";
import { Pressures } from "./Pressures";
import { Use } from "./Use";

export function Summary({ guest }: { guest: GuestRow }) {
  const status = useStatus(guest).data;
  const running = guest.status === "running";
  return (
    <Stack gap="lg">
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Facts title="State">
          {status?.uptime ? <Fact label="Running for">{duration(status.uptime)}</Fact> : null}
          {running && <Addresses guest={guest} />}
          {guest.type === "qemu" && status?.accelerator !== undefined && (
            <Fact label="Runs by">{status.accelerator === "kvm" ? "KVM" : "emulation, without KVM"}</Fact>
          )}
          {status?.["running-machine"] !== undefined && <Fact label="Machine">{status["running-machine"]}</Fact>}
          {status?.["running-qemu"] !== undefined && <Fact label="QEMU">{status["running-qemu"]}</Fact>}
          {status?.pid !== undefined && <Fact label="PID on the host">{status.pid}</Fact>}
          {!running && <Fact label="Running">no</Fact>}
        </Facts>
        <Use status={status} kind={guest.type} />
        {running && guest.type === "qemu" && status?.agent === 1 && <AgentFacts guest={guest} />}
      </SimpleGrid>
      {running && <Pressures status={status} />}
      <section aria-labelledby="over-time">
        <Group justify="space-between" mb="sm">
          <Title order={2} size="h4" id="over-time">
            Over time
          </Title>
        </Group>
        <GuestCharts guest={guest} />
      </section>
    </Stack>
  );
}

function Addresses({ guest }: { guest: GuestRow }) {
  const addresses = useAddresses(guest, true);
  const [first, ...others] = addresses.data ?? [];
  if (first === undefined) {
    return <Fact label="Addresses">{addresses.isPending ? "asking …" : "none known yet"}</Fact>;
  }
  return (
    <Fact label="Addresses">
      {[first, ...others].map((address) => (
        <Text key={address} size="sm" className="figures" style={{ overflowWrap: "anywhere" }}>
          {address}
        </Text>
      ))}
    </Fact>
  );
}
