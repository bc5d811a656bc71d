/** What a chart says in words, and what its axes say. */
import { moment } from "./units";

export type Value = number | null | undefined;

export interface Line {
  readonly label: string;
  readonly values: readonly Value[];
}

export interface Drawn {
  /** Seconds since 1970, ascending. */
  readonly times: readonly number[];
  /** At most three, with as many values as there are times. */
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  /** What the axis ends at, where the values have a whole. */
  readonly whole?: number | undefined;
}

/** A line's latest, smallest and largest value; undefined when nothing was measured. */
export function summary(values: readonly Value[]): { last: number; min: number; max: number } | undefined {
  const known = values.filter((value) => typeof value === "number" && Number.isFinite(value)) as number[];
  const last = known[known.length - 1];
  if (last === undefined) {
    return undefined;
  }
  return { last, min: known.reduce((a, b) => Math.min(a, b)), max: known.reduce((a, b) => Math.max(a, b)) };
}

/** Whether there is anything to draw. */
export function measured(lines: readonly Line[]): boolean {
  return lines.some(({ values }) => summary(values) !== undefined);
}

/** A chart as a sentence, for who does not see it. */
export function described(lines: readonly Line[], format: (value: number) => string): string {
  const parts = lines.map(({ label, values }) => {
    const found = summary(values);
    if (found === undefined) {
      return `${label}: nothing measured`;
    }
    return `${label}: now ${format(found.last)}, at least ${format(found.min)}, at most ${format(found.max)}`;
  });
  return parts.join(". ");
}

const DAY = 86_400;

/** What stands under the axis of time, in local time: the day is told where it begins. */
export function timeLabels(ticks: readonly number[], step: number): string[] {
  return ticks.map((tick, index) => {
    const [day = "", time = ""] = moment(tick).split(" ");
    if (step >= DAY) {
      return step >= 28 * DAY ? day.slice(0, 7) : day.slice(5);
    }
    const before = ticks[index - 1];
    const same = before !== undefined && moment(before).startsWith(day);
    return same ? time.slice(0, 5) : `${time.slice(0, 5)}\n${day}`;
  });
}

/** Where the axis ends: at `whole` where there is one, else a little above the largest value. */
export function ceiling(lines: readonly Line[], whole: number | undefined): number {
  if (whole !== undefined && whole > 0) {
    return whole;
  }
  const largest = Math.max(0, ...lines.map(({ values }) => summary(values)?.max ?? 0));
  return largest > 0 ? largest * 1.1 : 1;
}

/** The marks' words, each said once: figures that round to the same words are told apart by none. */
export function distinct(words: readonly string[]): (string | null)[] {
  return words.map((word, index) => (word === words[index - 1] ? null : word));
}
