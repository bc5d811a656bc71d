/** How many more guests of a kind fit, a square for each. */
import { Paper, Stack, Text, Title } from "@mantine/core";
import type { Fit } from "../../hooks/architect";
import { squares } from "../../logic/capacity";
import { bytes } from "../../logic/units";

const NAMES = { ct: ["container", "containers"], vm: ["VM", "VMs"] } as const;
const SIDE = 14;
const GAP = 4;
const A_ROW = 20;

export function FitView({ fit }: { fit: Fit }) {
  const [one, several] = NAMES[fit.kind];
  const title = `${fit.count} more ${fit.count === 1 ? one : several}`;
  return (
    <Paper withBorder p="md" component="section" aria-label={title} h="100%">
      <Stack gap="xs">
        <Title order={2} size="h3">
          {title}
          {fit.emulated && " (emulated)"}
        </Title>
        <Squares count={fit.count} label={title} color={fit.kind === "ct" ? "teal" : "blue"} />
        <Text size="sm">{fit.why}</Text>
        {typeof fit.idle === "number" && fit.cost && (
          <Text size="sm" c="dimmed">
            {fit.idle} by memory alone if all are idle: {bytes(fit.cost.memory ?? undefined)} each, {fit.cost.source}{" "}
            {fit.cost.taken.slice(0, 10)}
          </Text>
        )}
      </Stack>
    </Paper>
  );
}

function Squares({ count, label, color }: { count: number; label: string; color: string }) {
  const { shown, more } = squares(count);
  const rows = Math.max(1, Math.ceil(shown / A_ROW));
  const width = A_ROW * (SIDE + GAP);
  return (
    <div>
      <svg
        role="img"
        aria-label={label}
        viewBox={`0 0 ${width} ${rows * (SIDE + GAP)}`}
        width={width}
        style={{ maxWidth: "100%", height: "auto" }}
      >
        {Array.from({ length: shown }, (_, index) => index).map((index) => (
          <rect
            key={index}
            x={(index % A_ROW) * (SIDE + GAP)}
            y={Math.floor(index / A_ROW) * (SIDE + GAP)}
            width={SIDE}
            height={SIDE}
            rx={2}
            fill={`var(--mantine-color-${color}-6)`}
          />
        ))}
      </svg>
      {more > 0 && <Text size="sm">and {more} more</Text>}
    </div>
  );
}
