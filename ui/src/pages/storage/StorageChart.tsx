/** How full a storage was, over an hour to a year. */
import { SegmentedControl, Stack } from "@mantine/core";
import { useMemo, useState } from "react";
import { Refusal } from "../../components/Asked";
import { Chart } from "../../components/Chart";
import type { Timeframe } from "../../hooks/guest";
import { useStorageSeries } from "../../hooks/storage";
import { bytes } from "../../logic/units";

const FRAMES: { value: Timeframe; label: string }[] = [
  { value: "hour", label: "Hour" },
  { value: "day", label: "Day" },
  { value: "week", label: "Week" },
  { value: "month", label: "Month" },
  { value: "year", label: "Year" },
];

export function StorageChart({ node, storage }: { node: string; storage: string }) {
  const [frame, setFrame] = useState<Timeframe>("hour");
  const { data = [], error } = useStorageSeries(node, storage, frame);
  const times = useMemo(() => data.map((row) => row.time), [data]);
  const lines = useMemo(() => [{ label: "Used", values: data.map((row) => row.used ?? null) }], [data]);
  const whole = data.findLast((row) => row.total !== undefined)?.total;
  return (
    <Stack gap="xs" miw={0}>
      <SegmentedControl
        aria-label="Time shown"
        data={FRAMES}
        value={frame}
        onChange={setFrame}
        size="xs"
        w="fit-content"
        maw="100%"
      />
      {error !== null && <Refusal error={error} />}
      <Chart title="Use over time" times={times} lines={lines} format={bytes} whole={whole} />
    </Stack>
  );
}
