/** How much of a whole is used, as a bar and in words. */
import { Group, Progress, Text } from "@mantine/core";
import { bytes, percent, share } from "../logic/units";

const HIGH = 0.9;

export interface SpaceProps {
  label: string;
  used: number | undefined;
  total: number | undefined;
}

/** Space that is used: red, and so in words, where it is nearly full. */
export function Space({ label, used, total }: SpaceProps) {
  const part = share(used, total);
  const text = `${bytes(used)} of ${bytes(total)} (${percent(part)})`;
  const words = part > HIGH ? `${text}, nearly full` : text;
  return (
    <div>
      <Group justify="space-between" gap="xs" mb={2}>
        <Text size="sm">{label}</Text>
        <Text size="sm" className="figures">
          {words}
        </Text>
      </Group>
      <Progress.Root size="sm">
        <Progress.Section
          value={part * 100}
          color={part > HIGH ? "red" : "blue"}
          aria-label={label}
          aria-valuetext={words}
        />
      </Progress.Root>
    </div>
  );
}
