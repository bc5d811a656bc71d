/** Values over time. What draws them is loaded when the first chart is shown. */
import { Paper, Skeleton, Text, VisuallyHidden } from "@mantine/core";
import { lazy, Suspense } from "react";
import { type Drawn, described, measured } from "../logic/chart";

const ChartCanvas = lazy(() => import("./ChartCanvas"));

export interface ChartProps extends Drawn {
  title: string;
  height?: number;
}

export function Chart({ title, height = 160, ...drawn }: ChartProps) {
  return (
    <Paper component="figure" withBorder p="sm" m={0} miw={0}>
      <Text component="figcaption" fw={600} size="sm" mb={4}>
        {title}
      </Text>
      {!measured(drawn.lines) ? (
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
