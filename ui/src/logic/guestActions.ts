/** What can be done with a guest as a whole. */
import { type Action, type Parameters, path, shellCommand } from "./actions";
import { type StateTold, stateOf } from "./guestState";

export interface ActedOn extends StateTold {
  readonly vmid: number;
  readonly node: string;
  readonly type: "lxc" | "qemu";
  readonly name?: string;
}

type Verb = "start" | "shutdown" | "stop" | "reboot" | "reset" | "suspend" | "resume";

const TITLES: Readonly<Record<Verb, string>> = {
  start: "Start",
  shutdown: "Shut down",
  stop: "Stop",
  reboot: "Reboot",
  reset: "Reset",
  suspend: "Suspend",
  resume: "Resume",
};

/** A guest's name, or its id where it has none. */
export function nameOf(guest: Pick<ActedOn, "vmid" | "name">): string {
  return guest.name ?? String(guest.vmid);
}

export function kindOf(guest: Pick<ActedOn, "type">): "CT" | "VM" {
  return guest.type === "lxc" ? "CT" : "VM";
}

/** A guest's place in the API. */
export function placeOf({ node, type, vmid }: ActedOn): string {
  return path`/nodes/${node}/${type}/${vmid}`;
}

const LOSES: Readonly<Partial<Record<Verb, string>>> = {
  stop: "It is cut off at once, as by pulling the plug: what its programs have not written to disk is lost.",
  reset: "Its system is not asked, as by the reset button: what its programs have not written to disk is lost.",
  shutdown: "It is asked to halt; nobody can use it until it is started again.",
  suspend: "It is frozen where it is and stays in memory; nobody can use it until it is resumed.",
  reboot: "It is shut down and started again, with its pending changes; nobody can use it meanwhile.",
};

function power(guest: ActedOn, verb: Verb, parameters?: Parameters): Action {
  const loses = LOSES[verb];
  return {
    title: `${TITLES[verb]} ${nameOf(guest)}`,
    method: "POST",
    path: `${placeOf(guest)}/status/${verb}`,
    ...(parameters !== undefined && { parameters }),
    command: shellCommand("bastide", verb, nameOf(guest)),
    danger: verb === "stop" || verb === "reset",
    ...(loses !== undefined && { loses: [loses] }),
  };
}

export const start = (guest: ActedOn): Action => power(guest, "start");
export const shutdown = (guest: ActedOn): Action => power(guest, "shutdown");
export const reboot = (guest: ActedOn): Action => power(guest, "reboot");
export const reset = (guest: ActedOn): Action => power(guest, "reset");
export const suspend = (guest: ActedOn): Action => power(guest, "suspend");
export const resume = (guest: ActedOn): Action => power(guest, "resume");

/** Ends a shutdown that is at work, too: who stops a guest waits no longer for it. */
export function stop(guest: ActedOn): Action {
  const action = power(guest, "stop", { "overrule-shutdown": true });
  return { ...action, command: undefined };
}

/** A VM's memory goes to disk and its process ends; the next start goes on there. */
export function hibernate(guest: ActedOn): Action {
  return {
    ...power(guest, "suspend", { todisk: true }),
    title: `Suspend ${nameOf(guest)} to disk`,
    command: shellCommand("bastide", "suspend", nameOf(guest), "--disk"),
    loses: ["Its memory is written to disk and it ends; its next start goes on where it was."],
  };
}

export function makeTemplate(guest: ActedOn): Action {
  return {
    title: `Make ${nameOf(guest)} a template`,
    method: "POST",
    path: `${placeOf(guest)}/template`,
    command: shellCommand("bastide", "template", nameOf(guest)),
    danger: true,
    loses: ["It can never be started again, and there is no way back. Clones can be made of it."],
  };
}

/** Removing a stopped guest with what goes: its volumes and its snapshots. */
export function remove(guest: ActedOn, volumes: readonly string[], snapshots: number): Action {
  const goes = (count: number, what: string) => (count === 1 ? `1 ${what} goes` : `${count} ${what}s go`);
  return {
    title: `Remove ${kindOf(guest)} ${nameOf(guest)}`,
    method: "DELETE",
    path: placeOf(guest),
    parameters: { purge: true },
    command: shellCommand("bastide", "rm", nameOf(guest)),
    danger: true,
    typed: nameOf(guest),
    loses: [
      ...(volumes.length > 0
        ? [`${goes(volumes.length, "volume")}, with all that is on it: ${volumes.join(", ")}`]
        : []),
      ...(snapshots > 0 ? [`${goes(snapshots, "snapshot")} too`] : []),
      "Its permissions and its place in pools go too. Its backups stay.",
    ],
  };
}

/** What can be done now, by what the guest does. */
export function powerActions(guest: ActedOn): { first: Action | undefined; others: Action[] } {
  const state = stateOf(guest);
  if (guest.template) {
    return { first: undefined, others: [] };
  }
  if (state === "stopped" || state === "suspended") {
    return { first: start(guest), others: [] };
  }
  const vm = guest.type === "qemu";
  const halting = [shutdown(guest), reboot(guest), stop(guest), ...(vm ? [reset(guest)] : [])];
  if (state === "running") {
    return { first: shutdown(guest), others: [...halting.slice(1), suspend(guest), ...(vm ? [hibernate(guest)] : [])] };
  }
  return { first: resume(guest), others: [...halting.slice(2)] };
}
