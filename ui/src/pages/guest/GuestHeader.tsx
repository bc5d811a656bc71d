/** Who a guest is, what it does, and what can be done with it. */
import { Alert, Badge, Group, Stack, Text, Title } from "@mantine/core";
import { StateBadge } from "../../components/StateBadge";
import { useStatus } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { kindOf, nameOf } from "../../logic/guestActions";
import { stateOf } from "../../logic/guestState";
import { GuestActions } from "./GuestActions";

export function GuestHeader({ guest }: { guest: GuestRow }) {
  const status = useStatus(guest).data;
  const told = { ...guest, ...status };
  const tags = (told.tags ?? "").split(/[;, ]+/).filter((tag) => tag !== "");
  return (
    <Stack gap="xs">
      <Group justify="space-between" align="flex-start" gap="sm">
        <Stack gap={4} miw={0}>
          <Title order={1} size="h2" tabIndex={-1} style={{ overflowWrap: "anywhere" }}>
            {nameOf(guest)}
          </Title>
          <Group gap="xs">
            <Text size="sm" c="dimmed" className="figures">
              {kindOf(guest)} {guest.vmid} on {guest.node}
            </Text>
            <StateBadge state={stateOf(told)} />
            {told.lock !== undefined && told.lock !== "suspended" && (
              <Badge variant="default" tt="none">{`locked: ${told.lock}`}</Badge>
            )}
            {guest.pool !== undefined && <Badge variant="default" tt="none">{`pool: ${guest.pool}`}</Badge>}
            {tags.map((tag) => (
              <Badge key={tag} variant="default" tt="none" radius="sm">
                {tag}
              </Badge>
            ))}
          </Group>
        </Stack>
        <GuestActions guest={guest} status={status} />
      </Group>
      {status?.warning !== undefined && !guest.template && (
        <Alert color="yellow" role="status">
          This VM is {status.warning}
        </Alert>
      )}
      {status?.error !== undefined && (
        <Alert color="red" role="alert">
          {status.error}
        </Alert>
      )}
    </Stack>
  );
}
