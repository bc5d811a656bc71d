/** An advice with its reasons: what decided, what would change it, what was assumed, settings, size, cost. */
import { Alert, Anchor, Button, Group, List, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { WideTable } from "../../components/WideTable";
import type { Advice, Cost } from "../../hooks/architect";
import { notesOf } from "../../logic/service";
import { bytes } from "../../logic/units";

interface Props {
  advice: Advice;
  /** A question's answer: a key of the form and its value. */
  onAnswer: (key: string, value: string) => void;
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper withBorder p="md">
      <Title order={3} size="h4" mb="xs">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

function Lines({ lines }: { lines: readonly string[] }) {
  return (
    <List spacing={4} size="sm">
      {lines.map((line) => (
        <List.Item key={line}>{line}</List.Item>
      ))}
    </List>
  );
}

export function AdviceView({ advice, onAnswer }: Props) {
  const warnings = [...advice.warnings, ...advice.conflicts];
  const notes = notesOf(advice.notes);
  return (
    <Stack>
      {warnings.length > 0 && (
        <Alert color="yellow" title="Mind">
          <Lines lines={warnings} />
        </Alert>
      )}
      <Section title="Why">
        <Rules advice={advice} />
      </Section>
      {(advice.unless.length > 0 || advice.questions.length > 0) && (
        <Section title="What would change it">
          <Stack gap="sm">
            {advice.unless.length > 0 && <Lines lines={advice.unless} />}
            <Questions advice={advice} onAnswer={onAnswer} />
          </Stack>
        </Section>
      )}
      <Section title="Size and cost on this host">
        <Stack>
          <Sizes advice={advice} />
          <Costs advice={advice} />
        </Stack>
      </Section>
      <Section title="Settings">
        <Settings advice={advice} />
      </Section>
      {advice.assumed.length > 0 && (
        <Section title="Taken for granted">
          <Lines lines={advice.assumed} />
        </Section>
      )}
      {notes.length > 0 && (
        <Section title="Worth knowing">
          <Lines lines={notes} />
        </Section>
      )}
    </Stack>
  );
}

function Rules({ advice }: { advice: Advice }) {
  const rules = [...advice.rules, ...advice.against];
  return (
    <WideTable label="Rules that hold" head={["For", "Strength", "Rule"]} minWidth={300}>
      {rules.map((rule) => (
        <Table.Tr key={rule.id}>
          <Table.Td>{rule.kind === "ct" ? "container" : "VM"}</Table.Td>
          <Table.Td>{rule.strength}</Table.Td>
          <Table.Td>
            {rule.statement}
            <Text size="xs" c="dimmed">
              {rule.id}: {rule.because}
            </Text>
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

const worded = (choice: string) => (choice === "true" ? "yes" : choice === "false" ? "no" : choice);

function Questions({ advice, onAnswer }: Props) {
  return advice.questions.map((question) => (
    <Group key={question.key} gap="xs" justify="space-between" role="group" aria-label={question.question}>
      <Text size="sm">
        {question.question}{" "}
        <Text span c="dimmed" size="sm">
          (assumed: {worded(question.assumed)})
        </Text>
      </Text>
      <Group gap="xs">
        {question.choices.map((choice) => (
          <Button key={choice} variant="default" size="compact-sm" onClick={() => onAnswer(question.key, choice)}>
            {worded(choice)}
          </Button>
        ))}
      </Group>
    </Group>
  ));
}

function Sizes({ advice: { sizing } }: { advice: Advice }) {
  const rows = [
    ["Processors", String(sizing.cores), sizing.because.cores],
    ["Memory", bytes(sizing.memory), sizing.because.memory],
    ["Disk", bytes(sizing.disk), sizing.because.disk],
  ] as const;
  return (
    <WideTable label="Size" head={["Of", "Gets", "Because"]} minWidth={300}>
      {rows.map(([title, amount, because]) => (
        <Table.Tr key={title}>
          <Table.Th scope="row">{title}</Table.Th>
          <Table.Td className="figures">{amount}</Table.Td>
          <Table.Td>{because}</Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

const UNKNOWN = "–";
const seconds = (value: number | null | undefined) =>
  typeof value === "number" ? `${value.toPrecision(3)} s` : UNKNOWN;
const size = (value: number | null | undefined) => bytes(value ?? undefined);

function source(cost: Cost): string {
  const where = cost.source === "measured" ? "measured here" : "published, of another machine";
  return `${cost.kind === "ct" ? "Container" : "VM"}: ${where}, ${cost.taken.slice(0, 10)}${cost.emulated ? ", emulated" : ""}`;
}

function Costs({ advice }: { advice: Advice }) {
  const costs = [advice.cost, advice.cost_other].filter((cost) => cost !== null);
  const rows: [string, (cost: Cost) => string][] = [
    ["Memory, idle", (cost) => size(cost.memory)],
    ["Disk", (cost) => size(cost.disk)],
    ["Time to deploy", (cost) => seconds(cost.deploy)],
    ["Time to start", (cost) => seconds(cost.start)],
    ["Idle guests in 1 GB", (cost) => (typeof cost.density === "number" ? cost.density.toPrecision(3) : UNKNOWN)],
    [
      "Processor, of the host's speed",
      (cost) => (typeof cost.cpu === "number" ? `${Math.round(cost.cpu * 100)} %` : UNKNOWN),
    ],
  ];
  const known = rows.filter(([, told]) => costs.some((cost) => told(cost) !== UNKNOWN));
  return (
    <div>
      <WideTable
        label="Cost of one idle guest"
        head={["One idle guest", ...costs.map((cost) => (cost.kind === "ct" ? "Container" : "VM"))]}
        minWidth={300}
      >
        {known.map(([title, told]) => (
          <Table.Tr key={title}>
            <Table.Th scope="row">{title}</Table.Th>
            {costs.map((cost) => (
              <Table.Td key={cost.kind} className="figures">
                {told(cost)}
              </Table.Td>
            ))}
          </Table.Tr>
        ))}
      </WideTable>
      {costs.map((cost) => (
        <Text key={cost.kind} size="xs" c="dimmed">
          {source(cost)}
          {cost.note && `. ${cost.note}`}
        </Text>
      ))}
      {costs.some((cost) => cost.source !== "measured") && (
        <Anchor component={Link} to="/architect/compare" size="sm">
          Measure this host
        </Anchor>
      )}
    </div>
  );
}

function Settings({ advice }: { advice: Advice }) {
  const keys = [...new Set([...Object.keys(advice.settings), ...Object.keys(advice.reasons)])];
  return (
    <WideTable label="Settings" head={["Option", "Value", "Because"]} minWidth={300}>
      {keys.map((key) => (
        <Table.Tr key={key}>
          <Table.Th scope="row">{key}</Table.Th>
          <Table.Td className="wrapped">{String(advice.settings[key] ?? "–")}</Table.Td>
          <Table.Td>{advice.reasons[key]}</Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}
