/** What a plan comes to: decisions, differences, and the buttons that make it so. */
import { Alert, Badge, Checkbox, Group, List, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { WideTable } from "../../components/WideTable";
import type { Decision, PlanOutlook, Step } from "../../hooks/architect";
import type { Action } from "../../logic/actions";
import { shellCommand } from "../../logic/actions";
import { bytes } from "../../logic/units";
import { FollowedTask } from "./FollowedTask";

const WORDS: Readonly<Record<Step["action"], readonly [string, string, string]>> = {
  create: ["+", "create", "green"],
  change: ["~", "change", "blue"],
  drift: ["!", "mend", "yellow"],
  replace: ["±", "make anew", "red"],
  remove: ["-", "not in the plan", "red"],
  keep: ["=", "as it should be", "gray"],
};

interface Props {
  looks: readonly PlanOutlook[];
  text: string;
  copies: number | undefined;
  /** Whether this is what came of the text before. */
  stale: boolean;
}

export function OutlookView({ looks, text, copies, stale }: Props) {
  return (
    <Stack>
      {looks.map((look) => (
        <Paper key={look.name} withBorder p="md" component="section" aria-label={`Plan ${look.name}`}>
          <Title order={2} size="h3">
            {look.name}
          </Title>
          <Text size="sm" c="dimmed" role="status">
            {summary(look.steps)}
          </Text>
          <Steps steps={look.steps} />
          <Decisions decisions={look.decisions} />
        </Paper>
      ))}
      <Apply looks={looks} text={text} copies={copies} stale={stale} />
    </Stack>
  );
}

function summary(steps: readonly Step[]): string {
  const counts = Object.entries(WORDS).map(([action, [, word]]) => [
    steps.filter((step) => step.action === action).length,
    word,
  ]);
  return counts
    .filter(([count]) => count !== 0)
    .map(([count, word]) => `${word}: ${count}`)
    .join(", ");
}

function shown(key: string, value: string | number | null): string {
  if (value === null || value === "") {
    return "none";
  }
  return key === "memory" || key === "disk" ? bytes(Number(value) * 1024 ** 2) : String(value);
}

function Steps({ steps }: { steps: readonly Step[] }) {
  return (
    <WideTable label="Steps" head={["What", "Guest", "Kind", "Differences"]} minWidth={420}>
      {steps.map((step) => {
        const [mark, word, color] = WORDS[step.action];
        return (
          <Table.Tr key={step.guest}>
            <Table.Td>
              <Badge
                variant="light"
                color={color}
                tt="none"
                miw="max-content"
                className="figures"
                c="var(--mantine-color-text)"
              >
                {mark} {word}
              </Badge>
            </Table.Td>
            <Table.Td>{step.guest}</Table.Td>
            <Table.Td className="figures">
              {step.kind.toUpperCase()} {step.vmid}
            </Table.Td>
            <Table.Td>
              {step.reason && <Text size="sm">{step.reason}</Text>}
              {step.differences?.map((one) => (
                <Text key={one.key} size="sm">
                  {one.key}: {shown(one.key, one.present)} → {shown(one.key, one.wanted)}
                  {one.restart && " (at the next start)"}
                </Text>
              ))}
            </Table.Td>
          </Table.Tr>
        );
      })}
    </WideTable>
  );
}

function Decisions({ decisions }: { decisions: readonly Decision[] }) {
  return (
    <>
      <Title order={3} size="h5" mt="md">
        Decisions
      </Title>
      <WideTable label="Decisions" head={["Service", "Becomes", "Because"]} minWidth={340}>
        {decisions.map((one) => (
          <Table.Tr key={one.service}>
            <Table.Td>{one.service}</Table.Td>
            <Table.Td>
              {one.kind.toUpperCase()}, {one.os}
              {one.installs && `, ${one.title}`}
              <br />
              {one.cores} {one.cores === 1 ? "core" : "cores"}, {bytes(one.memory)}, {bytes(one.disk)}
            </Table.Td>
            <Table.Td>
              {one.reason} ({one.confidence})
              {one.warnings?.map((warning) => (
                <Text key={warning} size="sm" fw={600}>
                  {one.line ? `Line ${one.line}: ` : ""}
                  {warning}
                </Text>
              ))}
            </Table.Td>
          </Table.Tr>
        ))}
      </WideTable>
    </>
  );
}

function applyAction(
  looks: readonly PlanOutlook[],
  text: string,
  copies: number | undefined,
  prune: boolean,
  replace: boolean,
): Action {
  const steps = looks.flatMap((look) => look.steps);
  const lost = steps.filter((step) => (prune && step.action === "remove") || (replace && step.action === "replace"));
  const flags = [
    ...(copies ? ["--copies", String(copies)] : []),
    ...(prune ? ["--prune"] : []),
    ...(replace ? ["--replace"] : []),
  ];
  return {
    title: `Apply ${looks
      .map((look) => look.name)
      .slice(0, 3)
      .join(", ")}${looks.length > 3 ? " ..." : ""}`,
    method: "POST",
    path: "/architect/apply",
    parameters: { text, copies, prune: prune || undefined, replace: replace || undefined },
    command: shellCommand("bastide", "apply", "homelab.yaml", ...flags),
    danger: lost.length > 0,
    loses: lost.map(
      (step) =>
        `${step.action === "remove" ? "Removes" : "Makes anew"} ${step.guest} (${step.kind.toUpperCase()} ${step.vmid}): what is on its disks is lost`,
    ),
  };
}

function Apply({ looks, text, copies, stale }: Props) {
  const [prune, setPrune] = useState(false);
  const [replace, setReplace] = useState(false);
  const [task, setTask] = useState<string>();
  const steps = looks.flatMap((look) => look.steps);
  const removable = steps.filter((step) => step.action === "remove");
  const replaced = steps.filter((step) => step.action === "replace");
  const idle = steps.every((step) => step.action === "keep" || (step.action === "remove" && !prune));
  return (
    <Stack>
      {removable.length > 0 && (
        <Checkbox
          label={`Remove what is not in the plan: ${removable.map((step) => step.guest).join(", ")}`}
          checked={prune}
          onChange={(event) => setPrune(event.currentTarget.checked)}
        />
      )}
      {replaced.length > 0 && (
        <Alert color="red" title="These guests cannot be changed into what is wanted">
          <List size="sm">
            {replaced.map((step) => (
              <List.Item key={step.guest}>{step.guest}: its data is destroyed when it is made anew</List.Item>
            ))}
          </List>
          <Checkbox
            mt="xs"
            label="Make them anew"
            checked={replace}
            onChange={(event) => setReplace(event.currentTarget.checked)}
          />
        </Alert>
      )}
      <Group>
        <ActionButton
          action={applyAction(looks, text, copies, prune, replace)}
          variant="filled"
          disabled={stale || (replaced.length > 0 && !replace)}
          onDone={(done) => setTask(done.task?.upid)}
        >
          Apply
        </ActionButton>
        {idle && <Text size="sm">Everything is as the plan wants it.</Text>}
      </Group>
      {task !== undefined && <FollowedTask upid={task} title="Applying the plan" />}
    </Stack>
  );
}
