/** What needs attention, and what can be done about it. */
import { type Action, path, shellCommand } from "./actions";
import { type ActedOn, nameOf, start } from "./guestActions";
import { bytes, percent, share } from "./units";

export interface Task {
  readonly upid: string;
  readonly node: string;
  readonly type: string;
  readonly id: string;
  readonly starttime: number;
  readonly endtime?: number;
  readonly status?: string;
}

export interface Finding {
  readonly id: string;
  readonly grave: boolean;
  readonly title: string;
  readonly detail: string;
  readonly action?: Action;
  /** Where to look, and what the link says. */
  readonly link?: { readonly to: string; readonly label: string };
}

export interface Known {
  readonly guests: readonly ActedOn[];
  /** Those that start with the host. */
  readonly onboot: ReadonlySet<number>;
  readonly storages: readonly {
    readonly storage: string;
    readonly status: string;
    readonly disk?: number;
    readonly maxdisk?: number;
  }[];
  /** Newest first. */
  readonly tasks: readonly Task[];
  readonly emulation?: string | undefined;
  readonly unsaved: readonly { readonly vmid: number; readonly name?: string }[];
  /** Records of the state that cannot be read. */
  readonly damaged: readonly { readonly key: string; readonly reason: string }[];
}

const FULL = 0.85;
const VERY_FULL = 0.95;
const NAMED = 5;

const failed = (task: Task) =>
  task.endtime !== undefined && task.status !== "OK" && !(task.status ?? "").startsWith("WARNINGS");

/** Of each kind of task on each thing the newest, where it failed: what was done again and went well is over. */
export function failures(tasks: readonly Task[]): Task[] {
  const newest = new Map<string, Task>();
  for (const task of tasks) {
    const key = `${task.type} ${task.id}`;
    if (task.endtime !== undefined && !newest.has(key)) {
      newest.set(key, task);
    }
  }
  return [...newest.values()].filter(failed);
}

function ofTask(task: Task, guests: ReadonlyMap<string, ActedOn>): Finding {
  const guest = guests.get(task.id);
  const on = guest === undefined ? task.id : nameOf(guest);
  const link = { to: `/tasks/${encodeURIComponent(task.upid)}`, label: "See its log" };
  const base = { id: task.upid, detail: task.status ?? "", link };
  if (task.type !== "vzdump") {
    return { ...base, grave: false, title: `Task ${task.type}${on === "" ? "" : ` on ${on}`} failed` };
  }
  const title = on === "" ? "A backup failed" : `The backup of ${on} failed`;
  return { ...base, grave: true, title, ...(guest !== undefined && { action: backUp(guest) }) };
}

/** Backing up a guest to where backups go by default. */
export function backUp(guest: ActedOn): Action {
  return {
    title: `Back up ${nameOf(guest)}`,
    method: "POST",
    path: path`/nodes/${guest.node}/vzdump`,
    parameters: { vmid: guest.vmid },
    command: shellCommand("bastide", "backup", String(guest.vmid)),
  };
}

function ofStorages({ storages }: Known): Finding[] {
  return storages.flatMap(({ storage, status, disk, maxdisk }): Finding[] => {
    const link = { to: `/storage/${storage}`, label: "See what is on it" };
    const id = `storage/${storage}`;
    if (status !== "available") {
      const detail = "Nothing can be read from it or written to it.";
      return [{ id, grave: true, title: `Storage ${storage} is not available`, detail, link }];
    }
    const used = share(disk, maxdisk);
    if (used < FULL) {
      return [];
    }
    const detail = `${bytes((maxdisk ?? 0) - (disk ?? 0))} of ${bytes(maxdisk)} are free.`;
    return [{ id, grave: used >= VERY_FULL, title: `Storage ${storage} is ${percent(used)} full`, detail, link }];
  });
}

function ofGuests({ guests, onboot }: Known): Finding[] {
  const still = guests.filter((one) => onboot.has(one.vmid) && one.status === "stopped" && !one.template);
  return still.map((guest) => ({
    id: `stopped/${guest.vmid}`,
    grave: false,
    title: `${nameOf(guest)} is stopped`,
    detail: "It is to start with the host, and does not run.",
    action: start(guest),
    link: { to: `/guests/${guest.vmid}/options`, label: "See its options" },
  }));
}

function ofHost({ emulation, unsaved, damaged }: Known): Finding[] {
  const found: Finding[] = damaged.map(({ key, reason }) => ({
    id: `record/${key}`,
    grave: true,
    title: `The record ${key} cannot be read`,
    detail: `${reason}. What it names stays as it is; root mends it with bastide record show, repair or remove.`,
  }));
  if (emulation !== undefined) {
    const detail = `${emulation}. VMs work, but several times slower; CTs are not concerned.`;
    const link = { to: "/architect", label: "Run services as CTs" };
    found.push({ id: "emulation", grave: false, title: "VMs are emulated without KVM", detail, link });
  }
  if (unsaved.length > 0) {
    const names = unsaved.slice(0, NAMED).map((one) => one.name ?? String(one.vmid));
    const more = unsaved.length > NAMED ? ` and ${unsaved.length - NAMED} more` : "";
    const title =
      unsaved.length === 1 ? "1 guest is in no backup job" : `${unsaved.length} guests are in no backup job`;
    const link = { to: "/backups", label: "Make a backup job" };
    found.push({ id: "unsaved", grave: false, title, detail: `${names.join(", ")}${more}`, link });
  }
  return found;
}

/** All findings, the grave ones first. */
export function attention(known: Known): Finding[] {
  const byId = new Map(known.guests.map((guest) => [String(guest.vmid), guest]));
  const tasks = failures(known.tasks).map((task) => ofTask(task, byId));
  const all = [...tasks, ...ofStorages(known), ...ofGuests(known), ...ofHost(known)];
  return all.sort((a, b) => Number(b.grave) - Number(a.grave));
}
