/** Values over time. What draws them is loaded when the first chart is shown. */
import { Paper, Skeleton, Text, VisuallyHidden } from "@mantine/core";
import { lazy, Suspense } from "react";
import { described, type Line } from "../logic/chart";

const ChartCanvas = lazy(() => import("./ChartCanvas"));

export interface ChartProps {
  title: string;
  /** Seconds since 1970, ascending. */
  times: readonly number[];
  /** At most three, with as many values as there are times. */
  lines: readonly Line[];
  format: (value: number) => string;
  /** What the axis ends at, where the values have a whole. */
  whole?: number | undefined;
  height?: number;
}

export function Chart({ title, height = 160, ...drawn }: ChartProps) {
  return (
    <Paper component="figure" withBorder p="sm" m={0} miw={0}>
      <Text component="figcaption" fw={600} size="sm" mb={4}>
        {title}
      </Text>
      {drawn.times.length === 0 ? (
        <Text c="dimmed" size="sm" h={height}>
          Nothing has been measured yet.
        </Text>
      ) : (
        <Suspense fallback={<Skeleton h={height} />}>
          <ChartCanvas {...drawn} height={height} />
        </Suspense>
      )}
      <VisuallyHidden>{described(drawn.lines, drawn.format)}</VisuallyHidden>
    </Paper>
  );
}
