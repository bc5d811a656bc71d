/** What can be done with a host's own disks. Whatever destroys has to have the disk's name typed. */
import { type Action, path, shellCommand } from "./actions";
import { type FieldSpec, given, type Values } from "./schema";

export type MadeKind = "directory" | "lvm" | "lvmthin" | "zfs";

export interface MadeRow {
  readonly kind: MadeKind;
  readonly name: string;
  readonly of: string;
  readonly size?: number;
  readonly free?: number;
  /** A thin pool's volume group. */
  readonly group?: string;
}

export const MADE_LABELS: Readonly<Record<MadeKind, string>> = {
  directory: "Folder",
  lvm: "LVM volume group",
  lvmthin: "LVM thin pool",
  zfs: "ZFS pool",
};

const WORDS: Readonly<Record<MadeKind, string>> = { directory: "dir", lvm: "lvm", lvmthin: "lvmthin", zfs: "zfs" };

export function initGpt(node: string, disk: string): Action {
  return {
    title: `Give ${disk} an empty partition table`,
    method: "POST",
    path: path`/nodes/${node}/disks/initgpt`,
    parameters: { disk },
    command: shellCommand("bastide", "disks", "init", disk),
    danger: true,
    loses: ["What is on the disk can no longer be found."],
    typed: disk,
  };
}

export function wipe(node: string, disk: string, used: string | undefined): Action {
  return {
    title: `Wipe ${disk}`,
    method: "PUT",
    path: path`/nodes/${node}/disks/wipedisk`,
    parameters: { disk },
    command: shellCommand("bastide", "disks", "wipe", disk),
    danger: true,
    loses: [used === undefined ? "All that is on it." : `All that is on it, which is used as ${used}.`],
    typed: disk,
  };
}

/** The fields of the form that makes a storage on disks. */
export function madeFields(kind: MadeKind, free: readonly string[]): FieldSpec[] {
  const named: FieldSpec = { name: "name", label: "Name", help: "Its name, and the storage's" };
  const add: FieldSpec = { name: "add_storage", label: "Add it as a storage" };
  if (kind === "zfs") {
    const disks: FieldSpec = { name: "devices", label: "Disks", options: free, many: true };
    return [named, disks, { name: "raidlevel", label: "RAID level" }, "compression", "ashift", add];
  }
  const disk: FieldSpec = { name: "device", label: "Disk", options: free };
  return kind === "directory" ? [named, disk, { name: "filesystem", label: "File system" }, add] : [named, disk, add];
}

export function make(node: string, kind: MadeKind, values: Values): Action {
  const disks = values.devices ?? values.device ?? "";
  return {
    title: `Make ${MADE_LABELS[kind]} ${values.name ?? ""}`,
    method: "POST",
    path: path`/nodes/${node}/disks/${kind}`,
    parameters: given(values),
    danger: true,
    loses: [`All that is on ${disks}.`],
    typed: disks,
  };
}

export function unmake(node: string, row: MadeRow): Action {
  const { kind, name, group } = row;
  return {
    title: `Remove ${MADE_LABELS[kind]} ${name}`,
    method: "DELETE",
    path: path`/nodes/${node}/disks/${kind}/${name}`,
    parameters: { "cleanup-config": true, ...(group !== undefined && { "volume-group": group }) },
    command: shellCommand("bastide", "disks", "rm", WORDS[kind], group === undefined ? name : `${group}/${name}`),
    danger: true,
    loses: [
      kind === "directory"
        ? "It is unmounted and forgotten; what is on the disk stays there."
        : "It and all that is in it.",
      "The storages on it are no longer configured.",
    ],
    typed: name,
  };
}
