/** The drawing of a chart. */
import "uplot/dist/uPlot.min.css";
import { Box, useComputedColorScheme, useMantineTheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import UPlot from "uplot";
import { ceiling, type Drawn, distinct, summary, timeLabels } from "../logic/chart";
import { bytes, moment, rate } from "../logic/units";
import classes from "./Chart.module.css";

interface Props extends Drawn {
  height: number;
}

const LEGEND = 30;
/** Steps of an axis whose values are told in KiB, MiB ... */
const BINARY = Array.from({ length: 60 }, (_, exponent) => 2 ** exponent);
/** Lines differ by more than their colour. */
const DASHES: readonly (number[] | null)[] = [null, [6, 3], [2, 3]];

function dataOf({ times, lines }: Props): UPlot.AlignedData {
  return [[...times], ...lines.map(({ values }) => values.map((value) => value ?? null))] as UPlot.AlignedData;
}

function useColours() {
  const theme = useMantineTheme();
  const dark = useComputedColorScheme("light") === "dark";
  const shade = dark ? 4 : 8;
  const lines = [theme.colors.blue[shade], theme.colors.orange[shade], theme.colors.teal[shade]];
  return { dark, lines, text: dark ? theme.colors.dark[1] : theme.colors.gray[7], grid: dark ? "#3b3b3b" : "#e9ecef" };
}

export default function ChartCanvas(props: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const colours = useColours();
  const labels = props.lines.map(({ label }) => label).join("\n");

  // biome-ignore lint/correctness/useExhaustiveDependencies: drawn anew for other lines and other colours alone
  useEffect(() => {
    const place = frame.current;
    if (place === null) {
      return;
    }
    const made = new UPlot(options(latest, colours, place.clientWidth), dataOf(latest.current), place);
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: place.clientWidth, height: made.height }));
    watcher.observe(place);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [labels, colours.dark, props.height]);

  useEffect(() => {
    plot.current?.setData(dataOf(props));
  }, [props]);

  return <Box ref={frame} mih={props.height} aria-hidden className={classes.plot} />;
}

function options(
  latest: { readonly current: Props },
  colours: ReturnType<typeof useColours>,
  width: number,
): UPlot.Options {
  const format = (value: number) => latest.current.format(value);
  const binary = latest.current.format === bytes || latest.current.format === rate;
  const axis = { stroke: colours.text ?? "", grid: { stroke: colours.grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height: latest.current.height - LEGEND,
    padding: [8, 20, 0, 0],
    cursor: { y: false, drag: { setScale: false } },
    scales: { y: { range: () => [0, ceiling(latest.current.lines, latest.current.whole)] } },
    axes: [
      { ...axis, values: (_plot, ticks, _axis, _space, step) => timeLabels(ticks, step) },
      { ...axis, size: 72, values: (_plot, ticks) => distinct(ticks.map(format)), ...(binary && { incrs: BINARY }) },
    ],
    series: [
      { label: "Time", value: (_plot, time: number | null) => moment(time ?? latest.current.times.at(-1)) },
      ...latest.current.lines.map(({ label }, index) => ({
        label,
        stroke: colours.lines[index] ?? "",
        width: 1.5,
        points: { show: false },
        dash: DASHES[index] ?? [],
        value: (_plot: UPlot, value: number | null, _series: number, at: number | null) => {
          const shown = at === null ? summary(latest.current.lines[index]?.values ?? [])?.last : value;
          return format(shown ?? Number.NaN);
        },
      })),
    ],
  };
}
