/** The list of guests: sorting and filtering ten thousand rows, and what is done with several at once. */
import { type Action, path } from "./actions";
import { stateOf } from "./guestState";
import { type Guest, tagsOf } from "./tree";
import { share } from "./units";

export interface Row extends Guest {
  readonly uptime?: number;
  readonly cpu?: number;
  readonly mem?: number;
  readonly maxmem?: number;
  readonly disk?: number;
  readonly maxdisk?: number;
}

export type Column = "vmid" | "name" | "kind" | "state" | "cpu" | "mem" | "disk" | "uptime";
export interface Order {
  readonly by: Column;
  readonly down: boolean;
}
export interface Filter {
  readonly text: string;
  readonly kind: "all" | "qemu" | "lxc";
  readonly state: "all" | "running" | "stopped" | "template";
}

export const NO_FILTER: Filter = { text: "", kind: "all", state: "all" };

const KEYS: Readonly<Record<Column, (row: Row) => string | number>> = {
  vmid: (row) => row.vmid,
  name: (row) => (row.name ?? "").toLowerCase(),
  kind: (row) => row.type,
  state: (row) => stateOf(row),
  cpu: (row) => row.cpu ?? 0,
  mem: (row) => row.mem ?? 0,
  disk: (row) => share(row.disk, row.maxdisk),
  uptime: (row) => row.uptime ?? 0,
};

/** Sorted; equals by their id. */
export function sorted<R extends Row>(rows: readonly R[], { by, down }: Order): R[] {
  const key = KEYS[by];
  const keyed = rows.map((row): [string | number, R] => [key(row), row]);
  const sign = down ? -1 : 1;
  keyed.sort(([a, first], [b, second]) => (a < b ? -sign : a > b ? sign : first.vmid - second.vmid));
  return keyed.map(([, row]) => row);
}

/** Those that answer the filter; every word must be in the id, name, tags, pool or addresses. */
export function filtered<R extends Row>(
  rows: readonly R[],
  filter: Filter,
  addresses: ReadonlyMap<number, readonly string[]>,
): readonly R[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0 && filter.kind === "all" && filter.state === "all") {
    return rows;
  }
  return rows.filter((row) => {
    if (filter.kind !== "all" && row.type !== filter.kind) {
      return false;
    }
    const state = row.template ? "template" : row.status;
    if (filter.state !== "all" && state !== filter.state) {
      return false;
    }
    const kind = row.type === "lxc" ? "ct" : "vm";
    const known = [row.vmid, row.name, kind, tagsOf(row).join(" "), row.pool, ...(addresses.get(row.vmid) ?? [])];
    const text = known.join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function many(rows: readonly Row[]): string {
  const [only] = rows;
  return rows.length === 1 && only !== undefined ? (only.name ?? String(only.vmid)) : `${rows.length} guests`;
}

const ids = (rows: readonly Row[]) => rows.map(({ vmid }) => String(vmid));

/** Starting those of the chosen guests that can be started; undefined where there is none. */
export function startMany(rows: readonly Row[]): Action | undefined {
  const stopped = rows.filter((row) => row.status === "stopped" && !row.template);
  const [first] = stopped;
  return first === undefined
    ? undefined
    : {
        title: `Start ${many(stopped)}`,
        method: "POST",
        path: path`/nodes/${first.node}/startall`,
        parameters: { vms: ids(stopped).join(","), force: true },
      };
}

const SECONDS = 60;

/** Shutting down those of the chosen guests that run; `cut` stops those that do not halt in time. */
export function stopMany(rows: readonly Row[], cut: boolean): Action | undefined {
  const running = rows.filter((row) => row.status === "running");
  const [first] = running;
  if (first === undefined) {
    return undefined;
  }
  const late = cut
    ? `Who has not halted after ${SECONDS} seconds (or the time in its options) is cut off: what is not written to disk is lost.`
    : "Who does not halt goes on running.";
  return {
    title: cut ? `Stop ${many(running)}` : `Shut down ${many(running)}`,
    method: "POST",
    path: path`/nodes/${first.node}/stopall`,
    parameters: { vms: ids(running).join(","), "force-stop": cut, timeout: SECONDS },
    danger: true,
    loses: ["They are asked to halt, one after the other; nobody can use them until they are started again.", late],
  };
}
