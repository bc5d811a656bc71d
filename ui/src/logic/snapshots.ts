/** A guest's snapshots: how they came of each other, and what can be done with them. */
import { type Action, type Parameters, path, shellCommand } from "./actions";
import { type ActedOn, nameOf, placeOf } from "./guestActions";
import { moment } from "./units";

/** A row of the list; the one that is called `current` is the guest as it is. */
export interface SnapshotRow {
  readonly name: string;
  readonly description?: string;
  readonly parent?: string;
  readonly snaptime?: number;
  readonly vmstate?: number;
  readonly running?: number;
  /** What was not finished: a snapshot that is being taken or deleted. */
  readonly snapstate?: string;
}

export interface TreeRow {
  readonly row: SnapshotRow;
  /** How many branches lie between it and the trunk, which leads to the present state. */
  readonly depth: number;
}

export const CURRENT = "current";

/**
 * The snapshots in the order of their time along each branch, the present state last. Only branches are indented: what
 * was taken one after the other stays under each other, however many there are.
 */
export function treeOf(rows: readonly SnapshotRow[]): TreeRow[] {
  const names = new Set(rows.map((row) => row.name));
  const below = new Map<string | undefined, SnapshotRow[]>();
  for (const row of [...rows].sort(byTime)) {
    const parent =
      row.parent !== undefined && names.has(row.parent) && row.parent !== row.name ? row.parent : undefined;
    below.set(parent, [...(below.get(parent) ?? []), row]);
  }
  const trunk = ancestorsOf(rows, CURRENT);
  const found: TreeRow[] = [];
  function walk(parent: string | undefined, depth: number): void {
    const children = below.get(parent) ?? [];
    below.delete(parent);
    const straight = children.find((row) => trunk.has(row.name)) ?? children.at(-1);
    for (const row of [...children.filter((one) => one !== straight), straight]) {
      if (row !== undefined) {
        const aside = row === straight ? depth : depth + 1;
        found.push({ row, depth: aside });
        walk(row.name, aside);
      }
    }
  }
  walk(undefined, 0);
  for (const parent of [...below.keys()]) {
    walk(parent, 0); // parents that lead in a circle
  }
  return found;
}

function byTime(a: SnapshotRow, b: SnapshotRow): number {
  const last = (row: SnapshotRow) => (row.name === CURRENT ? 1 : 0);
  return last(a) - last(b) || (a.snaptime ?? 0) - (b.snaptime ?? 0);
}

function ancestorsOf(rows: readonly SnapshotRow[], name: string): Set<string> {
  const byName = new Map(rows.map((row) => [row.name, row]));
  const found = new Set<string>();
  for (let row = byName.get(name); row !== undefined && !found.has(row.name); row = byName.get(row.parent ?? "")) {
    found.add(row.name);
  }
  return found;
}

function placeOfSnapshot(guest: ActedOn, name: string): string {
  return `${placeOf(guest)}${path`/snapshot/${name}`}`;
}

/** Keep the present state under a name. */
export function take(guest: ActedOn, parameters: Parameters): Action {
  const { snapname, description, vmstate } = parameters;
  const name = String(snapname ?? "");
  const memory = vmstate === "1" || vmstate === true;
  const words = [...(memory ? ["--memory"] : []), ...(description ? ["--description", String(description)] : [])];
  return {
    title: name === "" ? `Take a snapshot of ${nameOf(guest)}` : `Take snapshot ${name} of ${nameOf(guest)}`,
    method: "POST",
    path: `${placeOf(guest)}/snapshot`,
    parameters,
    command: shellCommand("bastide", "snapshot", nameOf(guest), name || "NAME", ...words),
  };
}

export function describe(guest: ActedOn, name: string, description: string): Action {
  return {
    title: `Describe snapshot ${name}`,
    method: "PUT",
    path: `${placeOfSnapshot(guest, name)}/config`,
    parameters: { description },
    command: shellCommand("bastide", "snapshot", nameOf(guest), name, "--edit", "--description", description),
  };
}

/** Go back. One with memory goes on where it was in any case. */
export function rollBack(guest: ActedOn, row: SnapshotRow, start: boolean): Action {
  const running = guest.status === "running";
  const memory = Boolean(row.vmstate);
  return {
    title: `Roll ${nameOf(guest)} back to ${row.name}${start && !memory ? " and start it" : ""}`,
    method: "POST",
    path: `${placeOfSnapshot(guest, row.name)}/rollback`,
    parameters: { start: start && !memory ? true : undefined },
    command: shellCommand(
      "bastide",
      "rollback",
      nameOf(guest),
      row.name,
      ...(start && !memory ? ["--start"] : []),
      "--yes",
    ),
    danger: true,
    loses: [
      `All that its volumes and options have become since ${moment(row.snaptime)} is lost, unless another snapshot keeps it.`,
      ...(running ? ["It runs: it is stopped for it, at once."] : []),
      ...(memory ? ["Its memory was kept: it goes on running where it was."] : []),
    ],
  };
}

export function forget(guest: ActedOn, row: SnapshotRow, force = false): Action {
  return {
    title: `Delete snapshot ${row.name} of ${nameOf(guest)}`,
    method: "DELETE",
    path: placeOfSnapshot(guest, row.name),
    parameters: { force: force || undefined },
    command: shellCommand("bastide", "snapshot", nameOf(guest), row.name, "--delete", ...(force ? ["--force"] : [])),
    danger: true,
    loses: [
      `The state of ${moment(row.snaptime)} cannot be gone back to any more. The guest as it is stays.`,
      ...(row.vmstate ? ["Its kept memory goes too."] : []),
    ],
  };
}

/** A new guest of the state that a snapshot keeps. */
export function cloneFrom(guest: ActedOn, snapname: string, parameters: Parameters): Action {
  const { newid, name, hostname, storage } = parameters;
  const called = String(name ?? hostname ?? newid ?? "");
  const words = [...(newid ? ["--vmid", String(newid)] : []), ...(storage ? ["--storage", String(storage)] : [])];
  return {
    title: `Clone ${nameOf(guest)} as it was at ${snapname}`,
    method: "POST",
    path: `${placeOf(guest)}/clone`,
    parameters: { ...parameters, snapname, full: true },
    command: shellCommand(
      "bastide",
      "clone",
      nameOf(guest),
      called || "NAME",
      "--snapshot",
      snapname,
      "--full",
      ...words,
    ),
  };
}
