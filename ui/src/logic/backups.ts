/** Backups: their names, and what can be done with them. */
import { type Action, type Parameters, path, shellCommand } from "./actions";

export interface BackupRow {
  readonly volid: string;
  readonly size: number;
  readonly format?: string;
  readonly ctime?: number;
  readonly vmid?: number;
  readonly subtype?: string;
  readonly notes?: string;
  readonly protected?: number;
  readonly encrypted?: string;
  readonly verification?: { readonly state: string; readonly upid: string };
  readonly "restore-test"?: { readonly ok: number; readonly started: number; readonly upid: string };
}

const NAME = /(?:^|[:/])vzdump-(lxc|qemu)-([1-9]\d{2,8})-\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d/;

/** Of which guest a backup is; undefined for one that is not named as backups are. */
export function ofGuest(volid: string): { readonly kind: "lxc" | "qemu"; readonly vmid: number } | undefined {
  const match = NAME.exec(volid);
  return match === null ? undefined : { kind: match[1] as "lxc" | "qemu", vmid: Number(match[2]) };
}

export function storageOf(volid: string): string {
  return volid.slice(0, volid.indexOf(":"));
}

/** What a backup is called by itself: its file's name. */
export function shortName(volid: string): string {
  return volid.slice(Math.max(volid.lastIndexOf("/"), volid.indexOf(":")) + 1);
}

/** A path in a backup as the API takes it: base64 of its UTF-8. */
export function encodePath(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

export function decodePath(code: string): string {
  return new TextDecoder().decode(Uint8Array.from(atob(code), (character) => character.charCodeAt(0)));
}

/** Those that a search means: every word of it is in the guest's name or id, the volume id or the notes. */
export function matching(rows: readonly BackupRow[], search: string, nameOf: (vmid: number) => string): BackupRow[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    const name = row.vmid === undefined ? "" : nameOf(row.vmid);
    const text = `${name} ${row.vmid ?? ""} ${row.volid} ${row.notes ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function volumePath(node: string, volid: string): string {
  return path`/nodes/${node}/storage/${storageOf(volid)}/content/${volid}`;
}

/** Save guests now. `subject` is who, in words. */
export function backUp(node: string, parameters: Parameters, subject: string): Action {
  return { title: `Back up ${subject}`, method: "POST", path: path`/nodes/${node}/vzdump`, parameters };
}

export function removeBackup(node: string, row: BackupRow, size: string): Action {
  return {
    title: `Remove backup ${shortName(row.volid)}`,
    method: "DELETE",
    path: volumePath(node, row.volid),
    command: shellCommand("bastide", "backups", "rm", row.volid, "--yes"),
    danger: true,
    loses: [`The backup (${size}) is gone for good, with its log and its notes.`],
  };
}

export function protect(node: string, volid: string, on: boolean): Action {
  return {
    title: on ? `Protect ${shortName(volid)}` : `Protect ${shortName(volid)} no more`,
    method: "PUT",
    path: volumePath(node, volid),
    parameters: { protected: on },
    command: shellCommand("bastide", "backups", "set", volid, on ? "--protected" : "--no-protected"),
  };
}

export function annotate(node: string, volid: string, notes: string): Action {
  return {
    title: `Save notes of ${shortName(volid)}`,
    method: "PUT",
    path: volumePath(node, volid),
    parameters: { notes },
    command: shellCommand("bastide", "backups", "set", volid, "--notes", notes),
  };
}

/** Read backups to their ends: one by its volume id, else all of a storage's, or of a guest's there. */
export function verify(parameters: Parameters): Action {
  const { storage, volume } = parameters;
  const one = volume === undefined ? undefined : String(volume);
  return {
    title: one === undefined ? `Verify backups on ${storage ?? "a storage"}` : `Verify ${shortName(one)}`,
    method: "POST",
    path: "/bastide/backup/verify",
    parameters,
    command: one === undefined ? undefined : shellCommand("bastide", "backups", "verify", one),
  };
}

export function tryRestore(parameters: Parameters): Action {
  return { title: "Test restoring", method: "POST", path: "/bastide/backup/tests", parameters };
}

const RESTORE_WORDS: Readonly<Record<string, string>> = {
  storage: "--storage",
  pool: "--pool",
  name: "--name",
  hostname: "--name",
};
const RESTORE_FLAGS: Readonly<Record<string, string>> = {
  unique: "--unique",
  start: "--start",
  "live-restore": "--live",
};

const isSet = (value: Parameters[string]) => value === true || value === "1";

/** The command that does a restore; none where a parameter has no option of its own. */
function restoreCommand(volid: string, parameters: Parameters): string | undefined {
  const words: string[] = [];
  for (const [key, value] of Object.entries(parameters)) {
    const word = RESTORE_WORDS[key];
    const flag = RESTORE_FLAGS[key];
    if (key === "vmid") {
      words.push("--as", String(value || "new"));
    } else if (key === "force" && isSet(value)) {
      words.push("--force", "--yes");
    } else if (word !== undefined && value) {
      words.push(word, String(value));
    } else if (flag !== undefined && isSet(value)) {
      words.push(flag);
    } else if (key === "unprivileged" && value !== undefined) {
      words.push(isSet(value) ? "--unprivileged" : "--privileged");
    } else if (key === "bwlimit" && value) {
      return undefined;
    }
  }
  return shellCommand("bastide", "restore", volid, ...words);
}

/** A guest of a backup: a new one. */
export function restore(node: string, volid: string, parameters: Parameters): Action {
  const kind = ofGuest(volid)?.kind ?? "lxc";
  const source = kind === "lxc" ? { ostemplate: volid, restore: true } : { archive: volid };
  return {
    title: `Restore ${shortName(volid)}`,
    method: "POST",
    path: path`/nodes/${node}/${kind}`,
    parameters: { ...parameters, ...source },
    command: restoreCommand(volid, parameters),
  };
}

/** The same guest as it was then, in place of what it is now. */
export function restoreOver(
  node: string,
  { volid, ctime }: { readonly volid: string; readonly ctime: string },
  guest: { readonly vmid: number; readonly name: string },
  parameters: Parameters,
): Action {
  return {
    ...restore(node, volid, { vmid: guest.vmid, ...parameters, force: true }),
    title: `Replace ${guest.name} (${guest.vmid}) by its backup`,
    danger: true,
    typed: guest.name,
    loses: [
      `All that ${guest.name} has become since ${ctime} is lost: its volumes, its options and its snapshots.`,
      "It stays as it is until the restore is whole.",
    ],
  };
}
