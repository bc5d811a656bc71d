/** What a guest does, in a word and a colour. */
import { Badge, ColorSwatch } from "@mantine/core";
import { colorOf } from "../logic/guestState";

export function StateBadge({ state, size = "md" }: { state: string; size?: "sm" | "md" | "lg" }) {
  const dot = (
    <ColorSwatch size={8} color={`var(--mantine-color-${colorOf(state)}-6)`} withShadow={false} aria-hidden />
  );
  return (
    <Badge variant="default" tt="none" size={size} leftSection={dot}>
      {state}
    </Badge>
  );
}
