/** The host and its guests at a glance, and what needs attention. */
import { Alert, Anchor, Group, Skeleton, Stack, Text, Title } from "@mantine/core";
import { told } from "../../api/errors";
import { Empty } from "../../components/Empty";
import { GuestTable } from "../../components/GuestTable";
import { ways } from "../../components/navigation";
import { RowLink } from "../../components/RowLink";
import { useGuests, useNodes } from "../../hooks/resources";
import { Attention } from "./Attention";
import { NodeFigures } from "./NodeFigures";
import { StorageFigures } from "./StorageFigures";

export function Overview() {
  const nodes = useNodes();
  return (
    <Stack>
      <Title order={1} size="h2">
        Overview
      </Title>
      <Attention />
      <Guests />
      {nodes.data?.map(({ node }) => (
        <NodeFigures key={node} node={node} />
      ))}
      <StorageFigures />
    </Stack>
  );
}

function Guests() {
  const guests = useGuests();
  return (
    <section aria-labelledby="guests">
      <Title order={2} size="h4" id="guests" mb="xs">
        Guests
      </Title>
      {guests.error !== null && guests.data === undefined && (
        <Alert color="red" role="alert" className="lines">
          {told(guests.error)}
        </Alert>
      )}
      {guests.isPending && <Skeleton h={160} />}
      {guests.data?.length === 0 && <NoGuests />}
      {guests.data !== undefined && guests.data.length > 0 && <GuestTable rows={guests.data} />}
    </section>
  );
}

function NoGuests() {
  return (
    <Empty title="There are no guests yet.">
      <Text size="sm" c="dimmed" ta="center">
        Make one, or say what you want to run and let the architect choose between a VM and a CT.
      </Text>
      <Group gap="md" justify="center">
        {ways.map(({ label, to }) => (
          <Anchor key={to} component={RowLink} to={to}>
            {label}
          </Anchor>
        ))}
      </Group>
    </Empty>
  );
}
