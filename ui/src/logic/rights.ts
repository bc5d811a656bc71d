/**
 * Whether somebody may do something: the API's own decision, made beforehand of what the API publishes, so that a button
 * can say what is lacking. The API has the last word: what is not known here is let pass.
 */
import type { Parameters } from "./actions";

/** Each privilege with 1 where it reaches what lies below, else 0. */
export type Privileges = Readonly<Record<string, number>>;

/** What `GET /access/permissions` answers: privileges by path. A path without any is one that `NoAccess` cuts off. */
export type Rights = Readonly<Record<string, Privileges>>;

export interface Caller {
  readonly user: string;
  readonly rights: Rights;
}

/** `["perm", "/vms/{vmid}", ["VM.Audit"]]` and its like, as the reference of the API writes them. */
export type Check = readonly unknown[];

/** What the document says of an operation in `x-permissions` and `x-needs`; null is for root@pam alone. */
export type Declared = { readonly check?: Check; readonly user?: string; readonly needs?: Check } | null;

/** By `POST /nodes/{node}/lxc`. */
export type Published = Readonly<Record<string, Declared>>;

export interface Wanted {
  readonly method: string;
  /** The path after `/api2/json`, filled or with its `{placeholders}`. */
  readonly path: string;
  readonly parameters?: Parameters | undefined;
}

type Values = Readonly<Record<string, string>>;

function above(place: string): string | undefined {
  return place === "/" ? undefined : place.slice(0, place.lastIndexOf("/")) || "/";
}

/** The privileges on a path: its own, or those of the next place above it that reach below. */
export function privilegesOn(rights: Rights, place: string): Privileges {
  const own = rights[place];
  if (own !== undefined) {
    return own;
  }
  for (let next = above(place); next !== undefined; next = above(next)) {
    const found = rights[next];
    if (found !== undefined) {
      return Object.fromEntries(Object.entries(found).filter(([, reach]) => reach === 1));
    }
  }
  return {};
}

function filled(template: string, values: Values): string {
  return template.replaceAll(/\{([^}]+)\}/g, (whole, name: string) => values[name] || whole);
}

/** The paths that a check may mean: one, or where a placeholder is not known yet, all that it could become. */
function places(rights: Rights, template: string, values: Values): string[] {
  const path = filled(template, values);
  const open = path.indexOf("/{");
  if (open < 0) {
    return [path];
  }
  const root = path.slice(0, open) || "/";
  const below = Object.keys(rights).filter((known) => known.startsWith(root === "/" ? root : `${root}/`));
  return [`${root === "/" ? "" : root}/x`, ...below];
}

function perm(caller: Caller, [, template, privileges, ...options]: Check, values: Values): string | undefined {
  const wanted = privileges as readonly string[];
  const needed = options[options.indexOf("require_param") + 1];
  if (options.includes("require_param") && !values[String(needed)]) {
    return `a ${needed}`;
  }
  const any = options.includes("any");
  const candidates = places(caller.rights, String(template), values);
  const missing = candidates.map((place) => {
    const held = privilegesOn(caller.rights, place);
    const absent = wanted.filter((privilege) => held[privilege] === undefined);
    return any && absent.length < wanted.length ? [] : absent;
  });
  if (missing.some((absent) => absent.length === 0)) {
    return undefined;
  }
  const place = filled(String(template), values).replace(/\/\{.*/, "") || "/";
  return `${any ? wanted.join(" or ") : missing[0]?.[0]} on ${place}`;
}

const ALLOCATE: Readonly<Record<string, string>> = {
  storage: "Datastore.Allocate",
  vms: "VM.Allocate",
  pool: "Pool.Allocate",
  sdn: "SDN.Allocate",
  mapping: "Mapping.Modify",
};

function permModify(caller: Caller, [, template]: Check, values: Values): string | undefined {
  const place = String(template).replace("{path}", values.path ?? "");
  const branch = place.split("/");
  const allocate = branch[2] ? ALLOCATE[branch[1] ?? ""] : undefined;
  const wanted = ["Permissions.Modify", ...(allocate === undefined ? [] : [allocate])];
  if (place === "") {
    const held = Object.values(caller.rights).some((privileges) => privileges["Permissions.Modify"] !== undefined);
    return held ? undefined : "Permissions.Modify";
  }
  return perm(caller, ["perm", place, wanted, "any", 1], values);
}

function userid(caller: Caller, [kind, wanted]: Check, values: Values): string | undefined {
  if (kind === "userid-group") {
    return perm(caller, ["perm", "/access/groups/{group}", wanted, "any", 1], {});
  }
  if (wanted === "self") {
    return values.userid === caller.user ? undefined : "to be that user";
  }
  const realm = values.userid?.split("@").pop() ?? "";
  return perm(caller, ["perm", "/access/realm/{realm}", [wanted]], realm === "" ? {} : { realm });
}

/** What is lacking for a check to let the caller in; undefined when nothing is. */
export function lacking(caller: Caller, check: Check, values: Values): string | undefined {
  switch (check[0]) {
    case "perm":
      return perm(caller, check, values);
    case "and":
      return (check.slice(1) as Check[]).map((part) => lacking(caller, part, values)).find(Boolean);
    case "or": {
      const found = (check.slice(1) as Check[]).map((part) => lacking(caller, part, values));
      return found.includes(undefined) ? undefined : found.at(-1);
    }
    case "perm-modify":
      return permModify(caller, check, values);
    case "userid-param":
    case "userid-group":
      return userid(caller, check, values);
    default:
      return undefined;
  }
}

/** The operation that a path is of, and what stands at its placeholders. */
function operationOf(
  published: Published,
  { method, path }: Wanted,
): { declared: Declared; values: Values } | undefined {
  const parts = path.split("/");
  for (const [name, declared] of Object.entries(published)) {
    const [verb, template = ""] = name.split(" ");
    const wanted = template.split("/");
    const rest = wanted.at(-1) === "{volume}" && parts.length >= wanted.length;
    if (verb !== method || (wanted.length !== parts.length && !rest)) {
      continue;
    }
    const values: Record<string, string> = {};
    const fits = wanted.every((word, at) => {
      const part = decodeURIComponent(parts[at] ?? "");
      if (word.startsWith("{") && part !== "" && !part.startsWith("{")) {
        values[word.slice(1, -1)] = part;
      }
      return word.startsWith("{") ? part !== "" : word === part;
    });
    if (fits) {
      return { declared, values };
    }
  }
  return undefined;
}

/** What the caller lacks for a call, such as `VM.PowerMgmt on /vms/100`; undefined when nothing is known to be lacking. */
export function lackingFor(caller: Caller, published: Published, wanted: Wanted): string | undefined {
  const found = operationOf(published, wanted);
  if (found === undefined || caller.user === "root@pam") {
    return undefined;
  }
  if (found.declared === null) {
    return "to be root@pam";
  }
  const given = Object.entries(wanted.parameters ?? {}).map(([key, value]) => [
    key,
    value === undefined ? "" : String(value),
  ]);
  const values: Values = { ...Object.fromEntries(given), ...found.values };
  const { check, user, needs } = found.declared;
  const open = user === "all" || user === "world";
  return (
    (!open && check !== undefined ? lacking(caller, check, values) : undefined) ??
    (needs && lacking(caller, needs, values))
  );
}
