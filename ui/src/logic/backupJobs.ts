/** What runs by itself to keep backups: jobs that make them, verify them, and try to restore them. */
import { type Action, type Parameters, path, shellCommand } from "./actions";

export type JobKind = "backup" | "verify" | "test";

export type JobRow = Readonly<Record<string, unknown>> & {
  readonly id: string;
  readonly schedule?: string;
  readonly storage?: string;
  readonly enabled?: number | boolean;
  readonly comment?: string;
  readonly "next-run"?: number;
  readonly vmid?: string;
  readonly all?: number | boolean;
  readonly pool?: string;
  readonly exclude?: string;
};

export const JOB_PATHS: Readonly<Record<JobKind, string>> = {
  backup: "/cluster/backup",
  verify: "/bastide/backup/verify-jobs",
  test: "/bastide/backup/test-jobs",
};

export const JOB_WORDS: Readonly<Record<JobKind, string>> = {
  backup: "Backup",
  verify: "Verification",
  test: "Restore test",
};

/** Whom a job is about. */
export function whomOf(kind: JobKind, row: JobRow): string {
  if (kind === "verify") {
    return `all on ${row.storage ?? ""}`;
  }
  if (row.vmid) {
    return String(row.vmid).split(",").join(", ");
  }
  const every = row.pool ? `pool ${row.pool}` : "all guests";
  return row.exclude ? `${every} but ${row.exclude.split(",").join(", ")}` : every;
}

export function isEnabled(row: JobRow): boolean {
  return row.enabled === undefined || Boolean(Number(row.enabled));
}

export function createJob(kind: JobKind, parameters: Parameters): Action {
  const name = parameters.id === undefined ? "" : ` ${parameters.id}`;
  return {
    title: `Create ${JOB_WORDS[kind].toLowerCase()} job${name}`,
    method: "POST",
    path: JOB_PATHS[kind],
    parameters,
  };
}

function jobPath(kind: JobKind, id: string): string {
  return `${JOB_PATHS[kind]}${path`/${id}`}`;
}

export function changeJob(kind: JobKind, id: string, parameters: Parameters): Action {
  return { title: `Change job ${id}`, method: "PUT", path: jobPath(kind, id), parameters };
}

export function enableJob(kind: JobKind, id: string, on: boolean): Action {
  return { ...changeJob(kind, id, { enabled: on }), title: on ? `Enable job ${id}` : `Disable job ${id}` };
}

export function removeJob(kind: JobKind, id: string): Action {
  return {
    title: `Remove job ${id}`,
    method: "DELETE",
    path: jobPath(kind, id),
    command: shellCommand("bastide", "backups", "unschedule", id),
    danger: true,
    loses: ["It runs no more; a run of it that goes on goes on. What it made stays."],
  };
}

// What says when and whether a job runs, and what of it is told; all else is what it does.
const ABOUT_JOB = new Set([
  "id",
  "type",
  "schedule",
  "starttime",
  "dow",
  "enabled",
  "comment",
  "repeat-missed",
  "node",
  "next-run",
  "last-run",
  "digest",
]);

const CALLS: Readonly<Record<JobKind, (node: string) => string>> = {
  backup: (node) => path`/nodes/${node}/vzdump`,
  verify: () => "/bastide/backup/verify",
  test: () => "/bastide/backup/tests",
};

/** What a job would do at its time, now. */
export function runJob(kind: JobKind, node: string, row: JobRow): Action {
  const does = Object.entries(row).filter(([key]) => !ABOUT_JOB.has(key));
  const parameters = Object.fromEntries(
    does.map(([key, value]) => [key, Array.isArray(value) ? value.map(String) : isPlain(value) ? value : undefined]),
  );
  return {
    title: `Run job ${row.id} now`,
    method: "POST",
    path: CALLS[kind](node),
    parameters,
  };
}

function isPlain(value: unknown): value is string | number | boolean {
  return ["string", "number", "boolean"].includes(typeof value);
}
