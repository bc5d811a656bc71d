/** The plans that were applied, with their guests. */
import { Anchor, Group, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { StateBadge } from "../../components/StateBadge";
import { WideTable } from "../../components/WideTable";
import { type KnownPlan, useAddressed, usePlans } from "../../hooks/architect";
import { type Action, shellCommand } from "../../logic/actions";

function destroyAction(plan: KnownPlan): Action {
  return {
    title: `Destroy ${plan.name}`,
    method: "POST",
    path: "/architect/destroy",
    parameters: { name: plan.name },
    command: shellCommand("bastide", "destroy", plan.name),
    danger: true,
    loses: plan.guests.map(
      (guest) => `Removes ${guest.name} (${guest.kind.toUpperCase()} ${guest.vmid}) with its disks`,
    ),
    typed: plan.name,
  };
}

export function KnownPlans() {
  const plans = usePlans();
  return (
    <Stack component="section" aria-labelledby="plans">
      <Title order={2} id="plans">
        Applied plans
      </Title>
      <Asked query={plans}>
        {(rows) =>
          rows.length === 0 ? (
            <Text>No plan was applied yet.</Text>
          ) : (
            rows.map((plan) => <One key={plan.name} plan={plan} />)
          )
        }
      </Asked>
    </Stack>
  );
}

function One({ plan }: { plan: KnownPlan }) {
  const guests = useAddressed();
  const address = (vmid: number) => guests.data?.find((row) => row.vmid === vmid)?.addresses[0];
  return (
    <Paper withBorder p="md">
      <Group justify="space-between">
        <Title order={3} size="h4">
          {plan.name}
        </Title>
        <Group>
          {plan.task !== "" && (
            <Anchor component={Link} to={`/tasks/${encodeURIComponent(plan.task)}`}>
              A task works on it
            </Anchor>
          )}
          <ActionButton action={destroyAction(plan)} disabled={plan.task !== ""}>
            Destroy
          </ActionButton>
        </Group>
      </Group>
      <WideTable label={`Guests of ${plan.name}`} head={["Guest", "Service", "Kind", "State", "Address"]}>
        {plan.guests.map((guest) => (
          <Table.Tr key={guest.name}>
            <Table.Td>
              <Anchor component={Link} to={`/guests/${guest.vmid}/summary`}>
                {guest.name}
              </Anchor>
            </Table.Td>
            <Table.Td>{guest.service}</Table.Td>
            <Table.Td className="figures">
              {guest.kind.toUpperCase()} {guest.vmid}
            </Table.Td>
            <Table.Td>
              <StateBadge state={guest.status} />
              {guest.state !== "ready" && (
                <Text span size="sm">
                  {" "}
                  {guest.state}
                </Text>
              )}
            </Table.Td>
            <Table.Td className="figures">{address(guest.vmid)}</Table.Td>
          </Table.Tr>
        ))}
      </WideTable>
    </Paper>
  );
}
