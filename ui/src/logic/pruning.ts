/** Retention: what pruning would do, why, and doing it. */
import { type Action, path, shellCommand } from "./actions";

export interface PruneRow {
  readonly volid: string;
  readonly ctime: number;
  readonly mark: "keep" | "remove" | "protected" | "renamed";
  readonly type: string;
  readonly vmid?: number;
  /** The rule that keeps it, or that keeps a newer one instead. */
  readonly rule?: string;
}

/** The rules, in the order in which they are asked. */
export const RULES = ["keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"] as const;

const PERIODS: Readonly<Record<string, string>> = {
  "keep-hourly": "hour",
  "keep-daily": "day",
  "keep-weekly": "week",
  "keep-monthly": "month",
  "keep-yearly": "year",
};

/** Why a backup goes or stays. */
export function whyPruned({ mark, rule }: Pick<PruneRow, "mark" | "rule">): string {
  const period = PERIODS[rule ?? ""];
  switch (mark) {
    case "protected":
      return "It is protected; it counts for no rule.";
    case "renamed":
      return "Its name does not tell whose backup it is; it is never pruned.";
    case "remove":
      return period === undefined ? "No rule keeps it." : `A newer one is kept for its ${period} (${rule}).`;
    default:
      return rule === undefined
        ? "All are kept."
        : period === undefined
          ? "It is one of the newest (keep-last)."
          : `It is the newest of its ${period} (${rule}).`;
  }
}

export interface Pruning {
  readonly node: string;
  readonly storage: string;
  readonly keep?: string | undefined;
  readonly vmid?: number | undefined;
}

/** `goes` are the volume ids that the preview marks, `size` what they take together. */
export function prune({ node, storage, keep, vmid }: Pruning, goes: readonly string[], size: string): Action {
  const words = [
    ...(vmid === undefined ? [] : [String(vmid)]),
    "--storage",
    storage,
    ...(keep ? ["--keep", keep] : []),
  ];
  const count = goes.length === 1 ? "1 backup goes" : `${goes.length} backups go`;
  return {
    title: `Prune backups on ${storage}`,
    method: "DELETE",
    path: path`/nodes/${node}/storage/${storage}/prunebackups`,
    parameters: { "prune-backups": keep || undefined, vmid },
    command: shellCommand("bastide", "backups", "prune", ...words),
    danger: true,
    loses: [
      `${count} for good (${size}):`,
      ...goes.slice(0, 10),
      ...(goes.length > 10 ? [`and ${goes.length - 10} more`] : []),
    ],
  };
}
