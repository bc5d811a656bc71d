/** Who may do what with something: the entries of the access list that reach it. */
import { type Action, shellCommand } from "./actions";
import { type ActedOn, nameOf } from "./guestActions";

export interface AclEntry {
  readonly path: string;
  readonly type: "user" | "group" | "token";
  readonly ugid: string;
  readonly roleid: string;
  readonly propagate?: number | boolean;
}

/** Something that rights are given on: a guest, a storage, a pool. */
export interface Subject {
  /** What it is called in titles. */
  readonly name: string;
  readonly path: string;
  /** The pool that it is in, whose entries reach it, too. */
  readonly pool?: string | undefined;
}

export function guestSubject(guest: Pick<ActedOn, "vmid" | "name"> & { readonly pool?: string | undefined }): Subject {
  return { name: nameOf(guest), path: `/vms/${guest.vmid}`, pool: guest.pool };
}

function above(path: string): string[] {
  const parts = path.split("/").slice(1, -1);
  return ["/", ...parts.map((_, count) => `/${parts.slice(0, count + 1).join("/")}`)];
}

/** The entries on the thing itself, on its pool, and on what is above them when they reach below. */
export function reaching(entries: readonly AclEntry[], { path, pool }: Subject): AclEntry[] {
  const own = [path, ...(pool === undefined ? [] : [`/pool/${pool}`])];
  const higher = own.flatMap(above);
  return entries.filter(
    (entry) => own.includes(entry.path) || (higher.includes(entry.path) && Boolean(entry.propagate)),
  );
}

export interface Grant {
  readonly type: AclEntry["type"];
  readonly who: string;
  readonly role: string;
}

/** Give somebody a role on something, or take it away. */
export function grant(subject: Subject, { type, who, role }: Grant, gone = false): Action {
  const parameters = {
    path: subject.path,
    roles: role,
    [`${type}s`]: who,
    propagate: gone ? undefined : true,
    delete: gone || undefined,
  };
  const shown = type === "group" ? `@${who}` : who;
  return {
    title: gone
      ? `Take ${role} on ${subject.name} from ${who}`
      : `Give ${role} on ${subject.name} to ${who || "somebody"}`,
    method: "PUT",
    path: "/access/acl",
    parameters,
    command: shellCommand("bastide", "acl", gone ? "remove" : "set", subject.path, shown, "--role", role),
    ...(gone && {
      danger: true,
      loses: [`${who} may no longer do with it what ${role} allows, unless another entry does.`],
    }),
  };
}
