/** Who may do what with a guest: the entries of the access list that reach it. */
import { type Action, shellCommand } from "./actions";
import { type ActedOn, nameOf } from "./guestActions";

export interface AclEntry {
  readonly path: string;
  readonly type: "user" | "group" | "token";
  readonly ugid: string;
  readonly roleid: string;
  readonly propagate?: number | boolean;
}

export function pathOf({ vmid }: Pick<ActedOn, "vmid">): string {
  return `/vms/${vmid}`;
}

/** The entries on the guest itself, on its pool, and on what is above them when they reach below. */
export function reaching(entries: readonly AclEntry[], guest: { vmid: number; pool?: string | undefined }): AclEntry[] {
  const own = [pathOf(guest), ...(guest.pool === undefined ? [] : [`/pool/${guest.pool}`])];
  const above = ["/", "/vms", "/pool"].filter((path) => path !== "/pool" || guest.pool !== undefined);
  return entries.filter(({ path, propagate }) => own.includes(path) || (above.includes(path) && Boolean(propagate)));
}

export interface Grant {
  readonly type: AclEntry["type"];
  readonly who: string;
  readonly role: string;
}

/** Give somebody a role on a guest, or take it away. */
export function grant(guest: ActedOn, { type, who, role }: Grant, gone = false): Action {
  const parameters = {
    path: pathOf(guest),
    roles: role,
    [`${type}s`]: who,
    propagate: gone ? undefined : true,
    delete: gone || undefined,
  };
  const words = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return {
    title: gone
      ? `Take ${role} on ${nameOf(guest)} from ${who}`
      : `Give ${role} on ${nameOf(guest)} to ${who || "somebody"}`,
    method: "PUT",
    path: "/access/acl",
    parameters,
    command: shellCommand(
      "bastide",
      "api",
      "set",
      "/access/acl",
      ...words.map(([key, value]) => `${key}=${value === true ? 1 : value}`),
    ),
    ...(gone && {
      danger: true,
      loses: [`${who} may no longer do with it what ${role} allows, unless another entry does.`],
    }),
  };
}
