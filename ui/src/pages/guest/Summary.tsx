/** What a guest does now and did over time. */
import { Group, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useAddresses, useConfig, useStatus } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { hasNetwork } from "../../logic/guestConfig";
import { toldParts } from "../../logic/guestOptions";
import { isOn } from "../../logic/propertyString";
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
          <Fact label="Running">{running ? `for ${duration(status?.uptime)}` : "no"}</Fact>
          {running && <Addresses guest={guest} />}
          {guest.type === "qemu" && status?.accelerator !== undefined && (
            <Fact label="Runs by">{status.accelerator === "kvm" ? "KVM" : "emulation, without KVM"}</Fact>
          )}
          {status?.["running-machine"] !== undefined && <Fact label="Machine">{status["running-machine"]}</Fact>}
          {status?.["running-qemu"] !== undefined && <Fact label="QEMU">{status["running-qemu"]}</Fact>}
          <WhatItIs guest={guest} />
          {status?.pid !== undefined && <Fact label="PID on the host">{status.pid}</Fact>}
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

/** What it is asked to be, as far as it says what sort of guest it is. */
function WhatItIs({ guest }: { guest: GuestRow }) {
  const config = useConfig(guest).data;
  if (config === undefined) {
    return null;
  }
  const { ostype, features, onboot, unprivileged } = config;
  return (
    <>
      {ostype !== undefined && <Fact label="Operating system">{ostype}</Fact>}
      {guest.type === "lxc" && (
        <Fact label="Unprivileged">{isOn(unprivileged) ? "yes" : "no: its root is the host's"}</Fact>
      )}
      {features !== undefined && <Fact label="Features">{toldParts(guest.type, "features", String(features))}</Fact>}
      <Fact label="Starts with the host">{isOn(onboot) ? "yes" : "no"}</Fact>
    </>
  );
}

function Addresses({ guest }: { guest: GuestRow }) {
  const addresses = useAddresses(guest, true);
  const config = useConfig(guest).data;
  const [first, ...others] = addresses.data ?? [];
  if (first === undefined) {
    const none = config === undefined || hasNetwork(config) ? "none known yet" : "none: it is given no network";
    return <Fact label="Addresses">{addresses.isPending ? "asking …" : none}</Fact>;
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
