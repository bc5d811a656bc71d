/** Tasks in words: what one is about, and how it ended. */

export type Outcome = "running" | "ok" | "warning" | "error";

/** How a task stands: `status` is its exit status, none while it runs. */
export function outcomeOf(status: string | undefined): Outcome {
  if (status === undefined) {
    return "running";
  }
  if (status === "OK") {
    return "ok";
  }
  return status.startsWith("WARNINGS") ? "warning" : "error";
}

/** The state that `statusfilter` and `source` ask for. */
export function filterOf(outcome: Outcome | undefined): {
  source: "all" | "active" | "archive";
  statusfilter?: string;
} {
  if (outcome === undefined) {
    return { source: "all" };
  }
  return outcome === "running" ? { source: "active" } : { source: "archive", statusfilter: outcome };
}

/** What tasks do, by their types. */
export const TASK_TYPES: Readonly<Record<string, string>> = {
  dircreate: "Create a directory storage on",
  diskinit: "Initialize disk",
  download: "Download",
  imgbuild: "Build an image",
  imgcopy: "Copy a volume",
  imgdel: "Remove a volume",
  install: "Install in",
  launch: "Launch",
  lvmcreate: "Create LVM",
  move_volume: "Move a volume",
  prunebackups: "Prune backups",
  qmclone: "Clone VM",
  qmconfig: "Configure VM",
  qmcreate: "Create VM",
  qmdelsnapshot: "Delete snapshot of VM",
  qmdestroy: "Remove VM",
  qmmove: "Move a disk of VM",
  qmpause: "Suspend VM",
  qmreboot: "Reboot VM",
  qmreset: "Reset VM",
  qmrestore: "Restore VM",
  qmresume: "Resume VM",
  qmrollback: "Roll back VM",
  qmshutdown: "Shut down VM",
  qmsnapshot: "Take snapshot of VM",
  qmstart: "Start VM",
  qmstop: "Stop VM",
  qmsuspend: "Suspend VM to disk",
  qmtemplate: "Make VM a template",
  resize: "Resize a volume",
  restoretest: "Test restoring",
  spiceproxy: "Console (SPICE)",
  startall: "Start guests",
  stopall: "Stop guests",
  verify: "Verify backups",
  vncproxy: "Console",
  vzclone: "Clone CT",
  vzcreate: "Create CT",
  vzdelsnapshot: "Delete snapshot of CT",
  vzdestroy: "Remove CT",
  vzdump: "Back up",
  vzreboot: "Reboot CT",
  vzrestore: "Restore CT",
  vzresume: "Resume CT",
  vzrollback: "Roll back CT",
  vzshutdown: "Shut down CT",
  vzsnapshot: "Take snapshot of CT",
  vzstart: "Start CT",
  vzstop: "Stop CT",
  vzsuspend: "Suspend CT",
  vztemplate: "Make CT a template",
  wipedisk: "Wipe disk",
  zfscreate: "Create ZFS pool",
};

/** `Start VM 100`; a type that has no words of ours keeps its own. */
export function taskTitle({ type, id }: { readonly type: string; readonly id: string }): string {
  const does = TASK_TYPES[type] ?? type;
  return id === "" ? does : `${does} ${id}`;
}

/** Which tasks are looked at, as the page's address tells it. */
export interface TaskSearch {
  readonly node?: string;
  readonly guest?: string;
  readonly type?: string;
  readonly state?: Outcome;
  readonly user?: string;
}

const OUTCOMES: readonly string[] = ["running", "ok", "warning", "error"] satisfies Outcome[];

/** What of an address's search is understood; the router makes numbers of what looks like one. */
export function taskSearch(search: Readonly<Record<string, unknown>>): TaskSearch {
  const text = (key: string) => {
    const value = search[key];
    return typeof value === "string" || typeof value === "number" ? String(value) : "";
  };
  const found = Object.fromEntries(["node", "guest", "type", "user"].map((key) => [key, text(key)]));
  const fits: Readonly<Record<string, (value: string) => boolean>> = {
    guest: (value) => /^\d+$/.test(value),
    type: (value) => value in TASK_TYPES,
  };
  const given = Object.fromEntries(
    Object.entries(found).filter(([key, value]) => value !== "" && (fits[key]?.(value) ?? true)),
  );
  return OUTCOMES.includes(text("state")) ? { ...given, state: text("state") as Outcome } : given;
}
