/** A guest's use over an hour, a day, a week, a month or a year. */
import { Alert, SegmentedControl, SimpleGrid, Stack } from "@mantine/core";
import { useMemo, useState } from "react";
import { told } from "../../api/errors";
import { Chart, type ChartProps } from "../../components/Chart";
import { type SeriesRow, type Timeframe, useSeries } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { bytes, percent, rate } from "../../logic/units";

const FRAMES: readonly { value: Timeframe; label: string }[] = [
  { value: "hour", label: "Hour" },
  { value: "day", label: "Day" },
  { value: "week", label: "Week" },
  { value: "month", label: "Month" },
  { value: "year", label: "Year" },
];

function last(rows: readonly SeriesRow[], key: string): number | undefined {
  return rows.findLast((row) => row[key] !== undefined)?.[key];
}

function chartsOf(rows: readonly SeriesRow[], kind: GuestRow["type"]): ChartProps[] {
  const times = rows.map((row) => row.time);
  const line = (label: string, key: string) => ({ label, values: rows.map((row) => row[key] ?? null) });
  const share = (value: number) => `${value.toFixed(1)} %`;
  const disk = line("Used", "disk");
  return [
    { title: "CPU", times, lines: [line("CPU", "cpu")], format: percent, whole: 1 },
    { title: "Memory", times, lines: [line("Used", "mem")], format: bytes, whole: last(rows, "maxmem") },
    { title: "Network", times, lines: [line("In", "netin"), line("Out", "netout")], format: rate },
    { title: "Disk traffic", times, lines: [line("Read", "diskread"), line("Written", "diskwrite")], format: rate },
    ...(kind === "lxc"
      ? [{ title: "Root file system", times, lines: [disk], format: bytes, whole: last(rows, "maxdisk") }]
      : []),
    {
      title: "Pressure: some work waited",
      times,
      lines: [line("CPU", "pressurecpusome"), line("Memory", "pressurememorysome"), line("Disk", "pressureiosome")],
      format: share,
    },
  ];
}

export function GuestCharts({ guest }: { guest: GuestRow }) {
  const [frame, setFrame] = useState<Timeframe>("hour");
  const { data, error } = useSeries(guest, frame);
  const charts = useMemo(() => chartsOf(data ?? [], guest.type), [data, guest.type]);
  return (
    <Stack gap="sm">
      <SegmentedControl
        aria-label="Time shown"
        data={[...FRAMES]}
        value={frame}
        onChange={setFrame}
        w="fit-content"
        maw="100%"
      />
      {error !== null && (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }}>
        {charts.map((chart) => (
          <Chart key={chart.title} {...chart} />
        ))}
      </SimpleGrid>
    </Stack>
  );
}
