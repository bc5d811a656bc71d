/** How a task stands, by a mark and words. */
import { Group, Text, ThemeIcon, Tooltip } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconLoader2, IconX } from "@tabler/icons-react";
import type { ComponentType } from "react";
import { type Outcome, outcomeOf } from "../logic/tasks";

const LOOKS: Readonly<Record<Outcome, readonly [string, ComponentType<{ size?: number }>, string]>> = {
  running: ["blue", IconLoader2, "running"],
  ok: ["green", IconCheck, "OK"],
  warning: ["yellow", IconAlertTriangle, "warnings"],
  error: ["red", IconX, "failed"],
};

/** `status` is the exit status, none while it runs. */
export function TaskState({ status }: { status: string | undefined }) {
  const outcome = outcomeOf(status);
  const [color, Icon, word] = LOOKS[outcome];
  const state = (
    <Group gap={6} wrap="nowrap" display="inline-flex">
      <ThemeIcon size={18} radius="xl" variant="light" color={color} aria-hidden>
        <Icon size={12} />
      </ThemeIcon>
      <Text size="sm" span>
        {word}
      </Text>
    </Group>
  );
  return outcome === "error" || outcome === "warning" ? <Tooltip label={status}>{state}</Tooltip> : state;
}
