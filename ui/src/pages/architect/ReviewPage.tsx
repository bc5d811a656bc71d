/** Guests of the wrong size or the wrong kind, and what mends each finding. */
import { Anchor, Badge, Checkbox, Code, Group, Paper, Select, Stack, Text, Title } from "@mantine/core";
import { IconAlertTriangle, IconInfoCircle, IconLeaf } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { type Finding, type GuestReview, type Review, useReview, type Window } from "../../hooks/architect";
import { bytes, moment } from "../../logic/units";
import { ArchitectFrame } from "./ArchitectFrame";
import { Mend } from "./Mend";

const WINDOWS: readonly Window[] = ["hour", "day", "week", "month", "year"];
const SEVERITIES = {
  risk: ["red", IconAlertTriangle],
  waste: ["yellow", IconLeaf],
  note: ["blue", IconInfoCircle],
} as const;

export function ReviewPage() {
  const [window, setWindow] = useState<Window>("week");
  const [all, setAll] = useState(false);
  const review = useReview(window);
  return (
    <ArchitectFrame
      title="Review"
      about="What could be better about the guests, by the samples of their use and by what is seen of them from outside. Nothing is changed until you say so."
    >
      <Group align="flex-end">
        <Select
          label="Span that is judged"
          data={[...WINDOWS]}
          value={window}
          allowDeselect={false}
          onChange={(chosen) => setWindow((chosen ?? "week") as Window)}
        />
        <Checkbox
          label="Show guests without findings"
          checked={all}
          onChange={(event) => setAll(event.currentTarget.checked)}
        />
      </Group>
      <Asked query={review}>{(found) => <Found review={found} all={all} />}</Asked>
    </ArchitectFrame>
  );
}

function savings({ saving }: Review): string {
  const told = [
    saving.memory > 0 ? `${bytes(saving.memory)} of memory` : "",
    saving.cores > 0 ? `${saving.cores} processors` : "",
    saving.disk > 0 ? `${bytes(saving.disk)} of disk` : "",
  ].filter(Boolean);
  return told.length > 0 ? ` What is wasted would free ${told.join(", ")}.` : "";
}

function Found({ review, all }: { review: Review; all: boolean }) {
  const faulty = review.guests.filter((guest) => guest.findings.length > 0);
  const shown = all ? review.guests : faulty;
  const count = faulty.reduce((sum, guest) => sum + guest.findings.length, 0);
  return (
    <Stack>
      <Text role="status">
        {count === 0 ? "No findings" : count === 1 ? "1 finding" : `${count} findings`} about {review.guests.length}{" "}
        {review.guests.length === 1 ? "guest" : "guests"}.{savings(review)}
      </Text>
      {shown.length === 0 && <Empty title="Nothing to mend" />}
      {shown.map((guest) => (
        <Guest key={guest.vmid} guest={guest} />
      ))}
    </Stack>
  );
}

function Guest({ guest }: { guest: GuestReview }) {
  return (
    <Paper withBorder p="md" component="section" aria-label={guest.name} style={{ overflowWrap: "anywhere" }}>
      <Stack gap="sm">
        <div>
          <Title order={2} size="h4">
            <Anchor component={Link} to={`/guests/${guest.vmid}/summary`} inherit>
              {guest.name}
            </Anchor>
          </Title>
          <Text size="sm" c="dimmed">
            {guest.kind.toUpperCase()} {guest.vmid}
            {guest.running ? "" : ", stopped"},{" "}
            {guest.samples > 0
              ? `${guest.samples} ${guest.samples === 1 ? "sample" : "samples"} since ${moment(guest.since ?? undefined)}`
              : "no samples"}
          </Text>
        </div>
        {guest.findings.map((finding) => (
          <One key={`${finding.id} ${finding.finding}`} finding={finding} guest={guest} />
        ))}
        {guest.findings.length === 0 && (
          <Text size="sm">{guest.unknown.length > 0 ? "Nothing found" : "Right as it is"}</Text>
        )}
        {guest.unknown.map((text) => (
          <Text key={text} size="sm" c="dimmed">
            Unknown: {text}
          </Text>
        ))}
      </Stack>
    </Paper>
  );
}

function One({ finding, guest }: { finding: Finding; guest: GuestReview }) {
  const [color, Icon] = SEVERITIES[finding.severity];
  const sure = ["certain", "high"].includes(finding.confidence) ? "" : ` (${finding.confidence} confidence)`;
  return (
    <Stack gap={6}>
      <Group gap="xs" align="flex-start" wrap="nowrap">
        <Badge
          variant="light"
          color={color}
          c="var(--mantine-color-text)"
          tt="none"
          leftSection={<Icon size={14} />}
          miw={86}
        >
          {finding.severity}
        </Badge>
        <div>
          <Text>
            {finding.finding}
            {sure}
          </Text>
          <Text size="sm" c="dimmed">
            {finding.severity === "waste" && "saves "}
            {finding.effect}
          </Text>
        </div>
      </Group>
      {finding.commands.map((command) => (
        <Group key={command} gap="xs">
          <Code className="wrapped" flex="1 1 14rem">
            {command}
          </Code>
          <Mend command={command} guest={guest} />
        </Group>
      ))}
      {finding.how && <Text size="sm">{finding.how}</Text>}
    </Stack>
  );
}
