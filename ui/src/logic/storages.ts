/** Storages: what can be done with them, and which options a type's form asks for. */
import { type Action, pairs, path, shellCommand } from "./actions";
import { changes, type FieldGroup, type FieldSpec, given, type Values } from "./schema";
import { contentLabel, splitVolume } from "./volumes";

export interface TypeFacts {
  readonly type: string;
  readonly needed: readonly string[];
  readonly optional: readonly string[];
  readonly fixed: readonly string[];
  readonly secrets: readonly string[];
  readonly content: readonly string[];
  readonly default: readonly string[];
}

export const TYPE_LABELS: Readonly<Record<string, string>> = {
  borg: "Borg repository (backups, deduplicated)",
  btrfs: "Btrfs folder",
  cephfs: "CephFS",
  cifs: "SMB/CIFS share",
  dir: "Folder",
  iscsi: "iSCSI target",
  lvm: "LVM volume group",
  lvmthin: "LVM thin pool",
  nfs: "NFS export",
  rbd: "Ceph RBD",
  zfspool: "ZFS pool",
};

const LABELS: Readonly<Record<string, Omit<Exclude<FieldSpec, string>, "name">>> = {
  path: { label: "Folder", placeholder: "/srv/data" },
  server: { label: "Server", placeholder: "nas.lan" },
  export: { label: "Export" },
  vgname: { label: "Volume group" },
  thinpool: { label: "Thin pool" },
  monhost: { label: "Monitors", help: "Addresses, by spaces" },
  "fs-name": { label: "File system" },
  is_mountpoint: { label: "Only while mounted", help: "1, or the path that has to be a mount point" },
  mkdir: { label: "Make its folders (older name)" },
  "create-base-path": { label: "Make the folder when it lacks", on: true },
  "create-subdirs": { label: "Make the folders in it", on: true },
  nodes: { label: "Only for these nodes", help: "Names, by commas; none is all" },
  disable: { label: "Disabled" },
  shared: { label: "The same on all nodes" },
  nocow: { label: "Without copy-on-write" },
  krbd: { label: "By the kernel's driver" },
  fuse: { label: "By FUSE" },
  sparse: { label: "Thin volumes" },
  saferemove: { label: "Overwrite what is removed" },
  tagged_only: { label: "Only tagged volumes" },
  smbversion: { label: "SMB version" },
  "snapshot-as-volume-chain": { label: "Snapshots as chains of volumes" },
};

const KEEP: readonly FieldSpec[] = ["last", "hourly", "daily", "weekly", "monthly", "yearly"].map((span) => ({
  name: `keep-${span}`,
  label: `Keep ${span}`,
}));
const BANDWIDTH: readonly FieldSpec[] = ["default", "clone", "migration", "move", "restore"];

function fieldOf(name: string, facts: TypeFacts): FieldSpec {
  const shown = { ...LABELS[name], name };
  if (facts.secrets.includes(name)) {
    return name === "keyring" ? { ...shown, lines: 2 } : { ...shown, secret: true };
  }
  if (name === "content") {
    const options = facts.content.map((value) => ({ value, label: contentLabel(value) }));
    return { ...shown, label: "Content", options, many: true };
  }
  if (name === "prune-backups") {
    return { ...shown, label: "Which backups stay", help: "None filled in: all of them", parts: [...KEEP] };
  }
  return name === "bwlimit" ? { ...shown, label: "Bandwidth in KiB/s", parts: [...BANDWIDTH] } : shown;
}

const FIRST = ["content", "username", "password", "keyring", "domain", "passphrase", "encryption", "subdir"];
const NOT_ASKED = ["content-dirs", "mkdir"];

/** The fields of a type: what is needed and usual first, the rest folded. For a storage that is there, without what stays. */
export function storageFields(facts: TypeFacts, there: boolean): (FieldSpec | FieldGroup)[] {
  const asked = (names: readonly string[]) => names.filter((name) => !(there && facts.fixed.includes(name)));
  const all = [...facts.optional, ...facts.secrets];
  const usual = [...facts.needed, ...FIRST.filter((name) => all.includes(name))];
  const rest = all.filter((name) => !usual.includes(name) && !NOT_ASKED.includes(name));
  const needs = (name: string): FieldSpec => {
    const field = fieldOf(name, facts);
    return typeof field === "object" && facts.needed.includes(name) ? { ...field, required: true } : field;
  };
  const groups = asked(rest).map((name) => fieldOf(name, facts));
  return [
    ...(there ? [] : [{ name: "storage", label: "ID", help: "A letter, then letters, digits, -, _ and ." }]),
    ...asked(usual).map(needs),
    ...(groups.length > 0 ? [{ title: "More options", fields: groups, folded: true }] : []),
  ];
}

const SECRETS: Readonly<Record<string, string>> = {
  password: "--password-file",
  keyring: "--keyring-file",
  passphrase: "--passphrase-file",
};

/** The words of a command: `key=value`, and secrets by a file. */
function words(parameters: Action["parameters"], left: readonly string[]): string[] {
  return pairs(parameters)
    .filter(([key]) => !left.includes(key))
    .flatMap(([key, value]) => (SECRETS[key] === undefined ? [`${key}=${value}`] : [SECRETS[key], "FILE"]));
}

export function addStorage(type: string, values: Values): Action {
  const id = values.storage ?? "";
  const parameters = { type, ...given(values) };
  return {
    title: `Add storage ${id}`,
    method: "POST",
    path: "/storage",
    parameters,
    command: shellCommand("bastide", "storage", "add", id, type, ...words(parameters, ["storage", "type"])),
  };
}

export function changeStorage(storage: string, before: Values, values: Values, digest?: string): Action {
  const changed = changes(before, values);
  const gone = typeof changed.delete === "string" ? changed.delete.split(",") : [];
  const deleted = gone.flatMap((key) => ["--delete", key]);
  return {
    title: `Change storage ${storage}`,
    method: "PUT",
    path: path`/storage/${storage}`,
    parameters: { ...changed, ...(digest !== undefined && { digest }) },
    command: shellCommand("bastide", "storage", "set", storage, ...words(changed, ["delete"]), ...deleted),
  };
}

export function removeStorage(storage: string, type: string): Action {
  const key = "Its key and passphrase are forgotten, too: without both, nobody reads the backups in it again.";
  return {
    title: `Remove storage ${storage}`,
    method: "DELETE",
    path: path`/storage/${storage}`,
    command: shellCommand("bastide", "storage", "rm", storage),
    danger: true,
    loses: ["Only its configuration: what lies on it stays there.", ...(type === "borg" ? [key] : [])],
    ...(type === "borg" && { typed: storage }),
  };
}

export function protectVolume(node: string, volid: string, protect: boolean): Action {
  const { storage } = splitVolume(volid);
  return {
    title: `${protect ? "Protect" : "Unprotect"} ${volid}`,
    method: "PUT",
    path: path`/nodes/${node}/storage/${storage}/content/${volid}`,
    parameters: { protected: protect },
  };
}

export function copyVolume(node: string, volid: string, target: string): Action {
  const { storage } = splitVolume(volid);
  return {
    title: `Copy ${volid}`,
    method: "POST",
    path: path`/nodes/${node}/storage/${storage}/content/${volid}`,
    parameters: { target },
  };
}

/** The place, in the words of the type: a folder, a share, a group, a pool, a target. */
export function placeOf(row: Readonly<Record<string, string | number>>): string {
  if (row.server) {
    return `${row.server}:${row.export ?? row.share ?? ""}`;
  }
  if (row.vgname) {
    return [row.vgname, row.thinpool].filter(Boolean).join("/");
  }
  if (row.target) {
    return `${row.portal} ${row.target}`;
  }
  return String(row.path ?? row.pool ?? row.monhost ?? "");
}

/** What a storage that is enabled and does not answer needs to be told. */
export function stateOf(row: { readonly enabled: number; readonly active: number }): "ok" | "disabled" | "away" {
  if (!row.enabled) {
    return "disabled";
  }
  return row.active ? "ok" : "away";
}

/** What is sent with a file. */
export function uploadFields(asked: { content: string; checksum: string; algorithm: string }): [string, string][] {
  const { content, checksum, algorithm } = asked;
  const check: [string, string][] = [
    ["checksum", checksum],
    ["checksum-algorithm", algorithm],
  ];
  return [["content", content], ...(checksum === "" ? [] : check)];
}

type Pairs = readonly (readonly [string, string])[];

/** The call that uploads a file, for a shell with curl: the fields come before the file. */
export function uploadCurl(origin: string, where: string, fields: Pairs, name: string): string {
  const words = [
    ...fields.flatMap(([key, value]) => ["-F", `${key}=${value}`]),
    "-F",
    `filename=@${name}`,
    `${origin}/api2/json${where}`,
  ];
  return `curl -k -H "Authorization: PVEAPIToken=$TOKEN" ${shellCommand(...words)}`;
}

/** What a scan is asked with and what it tells, by type: options of `field`, in rows of `key`. */
export interface ScanPlan {
  readonly scan: "nfs" | "cifs" | "iscsi" | "lvm" | "lvmthin" | "zfs";
  readonly needs: readonly string[];
  readonly field: string;
  readonly key: string;
}

const SCANS: Readonly<Record<string, ScanPlan>> = {
  nfs: { scan: "nfs", needs: ["server"], field: "export", key: "path" },
  cifs: { scan: "cifs", needs: ["server", "username", "password", "domain"], field: "share", key: "share" },
  iscsi: { scan: "iscsi", needs: ["portal"], field: "target", key: "target" },
  lvm: { scan: "lvm", needs: [], field: "vgname", key: "vg" },
  lvmthin: { scan: "lvmthin", needs: ["vgname"], field: "thinpool", key: "lv" },
  zfspool: { scan: "zfs", needs: [], field: "pool", key: "pool" },
};

export function scanOf(type: string): ScanPlan | undefined {
  return SCANS[type];
}

/** What the scan is asked with; undefined while what it needs first is not there. */
export function scanQuery(plan: ScanPlan, values: Values): Values | undefined {
  const [first] = plan.needs;
  if (first !== undefined && !values[first]) {
    return undefined;
  }
  const found = plan.needs
    .filter((name) => values[name])
    .map((name) => [name === "vgname" ? "vg" : name, values[name] ?? ""]);
  return Object.fromEntries(found);
}

/** Fields with what a scan found for one of them. */
export function withOptions(
  fields: readonly (FieldSpec | FieldGroup)[],
  name: string,
  options: readonly string[],
): (FieldSpec | FieldGroup)[] {
  return fields.map((one) => {
    const field = typeof one === "string" ? { name: one } : one;
    return "name" in field && field.name === name ? { ...field, options, open: true } : one;
  });
}
