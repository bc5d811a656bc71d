/** The measured head-to-head table: what the measures are called, and their figures as people read them. */

export interface Figure {
  readonly unit: "s" | "B" | "B/s" | "1/s" | "guests/GB";
  readonly values: readonly number[];
}
export type Figures = Readonly<Record<string, Figure>>;

export interface Measure {
  readonly key: string;
  readonly title: string;
  readonly lessIsBetter?: boolean;
}

export const MEASURES: readonly Measure[] = [
  { key: "deploy", title: "deploy from template", lessIsBetter: true },
  { key: "start", title: "start to ready", lessIsBetter: true },
  { key: "stop", title: "stop", lessIsBetter: true },
  { key: "memory", title: "idle memory", lessIsBetter: true },
  { key: "disk", title: "disk allocated", lessIsBetter: true },
  { key: "cpu_single", title: "CPU, one core" },
  { key: "cpu_all", title: "CPU, all cores" },
  { key: "memory_bandwidth", title: "memory bandwidth" },
  { key: "disk_read_4k", title: "disk read, 4k random" },
  { key: "disk_write_4k", title: "disk write, 4k random" },
  { key: "disk_read", title: "disk read, sequential" },
  { key: "disk_write", title: "disk write, sequential" },
  { key: "net_out", title: "network, guest to host" },
  { key: "net_in", title: "network, host to guest" },
  { key: "net_latency", title: "network latency", lessIsBetter: true },
  { key: "density", title: "idle guests in 1 GB" },
];

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const half = sorted.length / 2;
  const upper = sorted[Math.floor(half)] ?? Number.NaN;
  return Number.isInteger(half) ? (upper + (sorted[half - 1] ?? Number.NaN)) / 2 : upper;
}

const SECONDS: readonly (readonly [number, string])[] = [
  [1, "s"],
  [1e-3, "ms"],
  [1e-6, "µs"],
];
const BYTES: readonly (readonly [number, string])[] = [
  [1024 ** 3, "GiB"],
  [1024 ** 2, "MiB"],
  [1024, "KiB"],
  [1, "B"],
];

function short(value: number): string {
  if (value >= 100) {
    return Math.round(value).toLocaleString("en-US");
  }
  return value.toFixed(value >= 10 ? 1 : 2);
}

function scaled(value: number, steps: readonly (readonly [number, string])[]): string {
  const [size, unit] = steps.find(([least]) => value >= least) ?? steps.at(-1) ?? [1, ""];
  return `${short(value / size)} ${unit}`;
}

/** A value of a figure: `1.93 s`, `148 µs`, `34.7 MiB`, `1.21 GiB/s`, `3,246 /s`. */
export function words(unit: Figure["unit"], value: number): string {
  switch (unit) {
    case "s":
      return scaled(value, SECONDS);
    case "B":
      return scaled(value, BYTES);
    case "B/s":
      return `${scaled(value, BYTES)}/s`;
    case "1/s":
      return `${short(value)} /s`;
    default:
      return short(value);
  }
}

/** The median, and with several runs the smallest and the largest. */
export function told(figure: Figure | undefined): string {
  if (figure === undefined) {
    return "–";
  }
  const middle = words(figure.unit, median(figure.values));
  if (figure.values.length === 1) {
    return middle;
  }
  return `${middle} (${words(figure.unit, Math.min(...figure.values))} - ${words(figure.unit, Math.max(...figure.values))})`;
}

/** How many times the container's median the VM's is. */
export function ratio(ct: Figure | undefined, vm: Figure | undefined): number | undefined {
  const below = ct === undefined ? 0 : median(ct.values);
  return vm === undefined || below <= 0 ? undefined : median(vm.values) / below;
}

export function ratioText(value: number | undefined): string {
  if (value === undefined) {
    return "–";
  }
  return value < 10 ? `${Number(value.toPrecision(2))}x` : `${Math.round(value).toLocaleString("en-US")}x`;
}

export interface Compared extends Measure {
  readonly ct: Figure | undefined;
  readonly vm: Figure | undefined;
  readonly native: Figure | undefined;
  readonly ratio: number | undefined;
  /** Which kind has the better median. */
  readonly winner: "ct" | "vm" | undefined;
}

/** The measures of which there is a figure, in their order. */
export function compared(ct: Figures, vm: Figures = {}, native: Figures = {}): Compared[] {
  return MEASURES.filter(({ key }) => ct[key] ?? vm[key] ?? native[key]).map((measure) => {
    const factor = ratio(ct[measure.key], vm[measure.key]);
    const vmWins = factor !== undefined && factor !== 1 && factor < 1 === Boolean(measure.lessIsBetter);
    const winner = factor === undefined || factor === 1 ? undefined : vmWins ? "vm" : "ct";
    return { ...measure, ct: ct[measure.key], vm: vm[measure.key], native: native[measure.key], ratio: factor, winner };
  });
}

/** Why some of a side could not be measured: each reason with its measures. */
export function reasons(missing: Readonly<Record<string, string>>): [string, string[]][] {
  const found = new Map<string, string[]>();
  for (const [measure, why] of Object.entries(missing)) {
    found.set(why, [...(found.get(why) ?? []), MEASURES.find(({ key }) => key === measure)?.title ?? measure]);
  }
  return [...found];
}
