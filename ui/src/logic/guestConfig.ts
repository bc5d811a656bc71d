/** Changing what a guest is asked to be, and what of it waits for the next start. */
import { type Action, type Parameters, shellCommand } from "./actions";
import { type ActedOn, nameOf, placeOf } from "./guestActions";
import { type GuestKind, partsOf, stemOf } from "./propertyString";

export interface OptionRow {
  readonly key: string;
  readonly value?: string | number;
  readonly pending?: string | number;
  readonly delete?: number;
}

export interface Change {
  readonly title: string;
  readonly values?: Readonly<Record<string, string | number | boolean>>;
  readonly remove?: readonly string[];
  readonly digest?: string | undefined;
  readonly loses?: readonly string[];
  /** A VM's as a task: new disks take their time. */
  readonly slow?: boolean;
}

/** Set some options and go back to the default of others. */
export function change(
  guest: ActedOn,
  { title, values = {}, remove = [], digest, loses, slow = false }: Change,
): Action {
  const words = Object.entries(values).map(
    ([key, value]) => `${key}=${typeof value === "boolean" ? Number(value) : value}`,
  );
  const gone = remove.flatMap((key) => ["--delete", key]);
  const parameters: Parameters = { ...values, delete: remove.length > 0 ? remove.join(",") : undefined, digest };
  return {
    title,
    method: slow && guest.type === "qemu" ? "POST" : "PUT",
    path: `${placeOf(guest)}/config`,
    parameters,
    command: "cipassword" in values ? undefined : shellCommand("bastide", "set", nameOf(guest), ...words, ...gone),
    ...(loses !== undefined && { loses, danger: true }),
  };
}

/** What a form changes: new values are set, and those that were emptied go back to their default. */
export function edited(
  guest: ActedOn,
  title: string,
  before: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
  digest?: string,
): Action {
  const values = Object.entries(now).filter(([key, value]) => value !== "" && value !== (before[key] ?? ""));
  const remove = Object.keys(before).filter((key) => before[key] !== "" && (now[key] ?? "") === "");
  return change(guest, { title, values: Object.fromEntries(values), remove, digest });
}

/** Forget changes that wait for the next start. */
export function revert(guest: ActedOn, keys: readonly string[]): Action {
  return {
    title: keys.length === 1 ? `Revert ${keys[0]} of ${nameOf(guest)}` : `Revert all changes of ${nameOf(guest)}`,
    method: "PUT",
    path: `${placeOf(guest)}/config`,
    parameters: { revert: keys.join(",") },
    command: shellCommand("bastide", "set", nameOf(guest), ...keys.flatMap((key) => ["--revert", key])),
  };
}

/** The rows of which something waits for the next start. */
export function waiting<Row extends OptionRow>(rows: readonly Row[]): Row[] {
  return rows.filter((row) => row.pending !== undefined || row.delete);
}

/** An option's value as it will be: what waits, else what is. */
export function wanted(row: OptionRow): string | undefined {
  if (row.delete) {
    return undefined;
  }
  const value = row.pending ?? row.value;
  return value === undefined ? undefined : String(value);
}

const DRIVE = /^(ide|sata|scsi|virtio)\d+$/;
const VOLUME = /^(rootfs|efidisk0|tpmstate0|(mp|unused|ide|sata|scsi|virtio)\d+)$/;

/** Whether an option names a volume, disk or medium. */
export function isVolumeKey(key: string): boolean {
  return VOLUME.test(key);
}

export function isDriveKey(key: string): boolean {
  return DRIVE.test(key);
}

/** The volume that an option names; none for a bind mount, a device of the host's or an empty drive. */
export function volumeOf(kind: GuestKind, key: string, text: string): string | undefined {
  const parts = partsOf(kind, key, text);
  const volume = parts.file ?? parts.volume;
  return volume?.includes(":") && !volume.startsWith("/") ? volume : undefined;
}

export function isCdrom(text: string): boolean {
  return partsOf("qemu", "ide0", text).media === "cdrom";
}

export function isCloudInitDrive(text: string): boolean {
  return /(:cloudinit\b|-cloudinit([.,]|$))/.test(text);
}

/** Whether a guest is given a network interface. */
export function hasNetwork(config: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(config).some((key) => /^net\d+$/.test(key));
}

/** The volumes that go with a guest: those in its options, without media that others may use too. */
export function ownVolumes(kind: GuestKind, config: Readonly<Record<string, string | number>>): string[] {
  const found = Object.entries(config).flatMap(([key, value]) => {
    const text = String(value);
    const foreign = kind === "qemu" && isCdrom(text) && !isCloudInitDrive(text);
    const volume = isVolumeKey(key) && !foreign ? volumeOf(kind, key, text) : undefined;
    return volume === undefined ? [] : [volume];
  });
  return [...new Set(found)];
}

/** The first free number of an indexed option: `2` where `net0` and `net1` are taken. */
export function freeIndex(keys: Iterable<string>, stem: string, limit: number): number | undefined {
  const taken = new Set(keys);
  for (let index = 0; index < limit; index += 1) {
    if (!taken.has(`${stem}${index}`)) {
      return index;
    }
  }
  return undefined;
}

/** How many numbers an indexed option has. */
export const LIMITS: Readonly<Record<string, number>> = {
  net: 32,
  mp: 256,
  dev: 256,
  ide: 4,
  sata: 6,
  scsi: 31,
  virtio: 16,
  usb: 14,
  hostpci: 16,
  serial: 4,
};

/** Sorted as people count: `net2` before `net10`, and by the order of `stems`. */
export function byKey(stems: readonly string[]): (a: { key: string }, b: { key: string }) => number {
  const rank = (key: string) => {
    const found = stems.indexOf(stemOf(key));
    return found < 0 ? stems.length : found;
  };
  return (a, b) => rank(a.key) - rank(b.key) || a.key.localeCompare(b.key, "en", { numeric: true });
}
