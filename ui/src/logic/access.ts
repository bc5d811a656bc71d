/** Users, groups, roles, tokens and grants: what is done with them. */
import type { AclEntry } from "./acl";
import { type Action, type Parameters, path, shellCommand } from "./actions";
import { type Choice, given, type Values } from "./schema";
import { moment } from "./units";

const DAY = 86_400;

/** When an account or a token ends, as choices; `now` in seconds. One that is set already stays a choice. */
export function expiries(now: number, present?: number): Choice[] {
  const spans: readonly (readonly [string, number])[] = [
    ["in a day", DAY],
    ["in a week", 7 * DAY],
    ["in 30 days", 30 * DAY],
    ["in 90 days", 90 * DAY],
    ["in a year", 365 * DAY],
  ];
  const kept = present ? [{ value: String(present), label: moment(present) }] : [];
  const later = spans.map(([label, span]) => ({ value: String(Math.floor(now) + span), label }));
  return [{ value: "0", label: "never" }, ...kept, ...later];
}

/** What was changed, with the empty text for what was emptied: users, groups and pools are changed so. */
export function changed(before: Values, now: Values): Parameters {
  return Object.fromEntries(Object.entries(now).filter(([key, value]) => value !== (before[key] ?? "")));
}

export function addUser(values: Values): Action {
  return { title: "Add user", method: "POST", path: "/access/users", parameters: given(values) };
}

export function editUser(userid: string, before: Values, now: Values): Action {
  return {
    title: `Change ${userid}`,
    method: "PUT",
    path: path`/access/users/${userid}`,
    parameters: changed(before, now),
  };
}

export function removeUser(userid: string, tokens: number, grants: number): Action {
  return {
    title: `Remove ${userid}`,
    method: "DELETE",
    path: path`/access/users/${userid}`,
    command: shellCommand("bastide", "user", "rm", userid),
    danger: true,
    loses: [`The user ${userid}`, `${tokens} API tokens of theirs`, `${grants} grants`],
  };
}

export function setPassword(userid: string, values: Values): Action {
  return {
    title: `Set the password of ${userid}`,
    method: "PUT",
    path: "/access/password",
    parameters: { userid, ...given(values) },
    command: shellCommand("bastide", "user", "passwd", userid),
  };
}

export function addToken({ userid = "", tokenid = "", ...rest }: Values): Action {
  return {
    title: "Make a token",
    method: "POST",
    path: path`/access/users/${userid}/token/${tokenid}`,
    parameters: given(rest),
  };
}

export function removeToken(userid: string, tokenid: string): Action {
  return {
    title: `Remove the token ${userid}!${tokenid}`,
    method: "DELETE",
    path: path`/access/users/${userid}/token/${tokenid}`,
    danger: true,
    loses: ["What uses it is refused from now on."],
  };
}

/** Give roles on a path, or take one entry away. */
export function giveRoles(values: Values): Action {
  const { propagate, ...rest } = values;
  return {
    title: "Add permission",
    method: "PUT",
    path: "/access/acl",
    parameters: { ...given(rest), propagate: propagate !== "0" },
  };
}

export function takeRole(entry: AclEntry): Action {
  return {
    title: `Take ${entry.roleid} on ${entry.path} from ${entry.ugid}`,
    method: "PUT",
    path: "/access/acl",
    parameters: { path: entry.path, roles: entry.roleid, [`${entry.type}s`]: entry.ugid, delete: true },
    danger: true,
    loses: [`${entry.ugid} may no longer do there what ${entry.roleid} allows, unless another entry does.`],
  };
}

/** Something with a name of its own that is removed: a role, a group, a pool. */
export function remove(
  what: string,
  name: string,
  callPath: string,
  loses: readonly string[],
  parameters: Parameters = {},
): Action {
  return { title: `Remove ${what} ${name}`, method: "DELETE", path: callPath, parameters, danger: true, loses };
}

/** Take a member out of a pool. */
export function leavePool(poolid: string, member: { readonly vmid?: number; readonly storage?: string }): Action {
  const which: Parameters = member.vmid === undefined ? { storage: member.storage } : { vms: String(member.vmid) };
  return {
    title: `Take ${member.vmid ?? member.storage} out of ${poolid}`,
    method: "PUT",
    path: "/pools",
    parameters: { poolid, ...which, delete: true },
  };
}

/** Each set of privileges with the paths that somebody has it at: mostly a few sets, at many paths. */
export function samePrivileges(paths: Readonly<Record<string, object>>): [string, string[]][] {
  const found = new Map<string, string[]>();
  for (const [place, privileges] of Object.entries(paths)) {
    const list = Object.keys(privileges).sort().join(", ");
    found.set(list, [...(found.get(list) ?? []), place]);
  }
  return [...found];
}
