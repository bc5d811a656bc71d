/** How much of something is used, as words and as a bar. */
import { Group, Progress, Stack, Text } from "@mantine/core";

interface Props {
  label: string;
  /** From 0 to 1. */
  part: number;
  words: string;
}

const FULL = 0.85;

export function UseBar({ label, part, words }: Props) {
  return (
    <Stack gap={4} miw={0}>
      <Group justify="space-between" gap="xs" wrap="nowrap">
        <Text size="sm" fw={600} truncate>
          {label}
        </Text>
        <Text size="sm" className="figures" ta="end">
          {words}
        </Text>
      </Group>
      <Progress.Root size="sm">
        <Progress.Section
          value={part * 100}
          color={part >= FULL ? "red" : "blue"}
          aria-label={label}
          aria-valuetext={words}
        />
      </Progress.Root>
    </Stack>
  );
}
