/** What is promised, held back and free of something that runs out, as parts of a bar. */

export interface Resource {
  readonly total: number;
  readonly used: number;
  readonly promised: number;
  readonly spared: number;
  readonly host: number;
  readonly free: number;
}

export interface Part {
  readonly key: "promised" | "host" | "spared" | "free";
  readonly title: string;
  readonly amount: number;
  /** Of the whole bar, in percent. */
  readonly share: number;
}

const TITLES = {
  promised: "promised to guests",
  host: "the host and what else it keeps",
  spared: "headroom",
  free: "free",
} as const;

/** The parts in their order; more may be promised than there is, and then the bar is as long as that. */
export function parts(resource: Resource): Part[] {
  const keys = ["promised", "host", "spared", "free"] as const;
  const whole = Math.max(resource.total, resource.promised + resource.host + resource.spared, 1);
  return keys
    .map((key) => ({ key, title: TITLES[key], amount: resource[key], share: (100 * resource[key]) / whole }))
    .filter((part) => part.amount > 0);
}

/** How many squares stand for guests that fit, and how many there is no place for. */
export function squares(count: number, most = 60): { shown: number; more: number } {
  return { shown: Math.min(count, most), more: Math.max(0, count - most) };
}
