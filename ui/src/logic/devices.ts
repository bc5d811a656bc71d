/** A guest's volumes, network interfaces and other devices: what they are called, what can be done with them. */
import { byKey, isCdrom, isCloudInitDrive, isDriveKey, type OptionRow, volumeOf, waiting, wanted } from "./guestConfig";
import { type ShownOption, toldParts } from "./guestOptions";
import { type GuestKind, stemOf } from "./propertyString";
import type { FieldSpec } from "./schema";

export type DeviceSort =
  | "disk"
  | "firmware"
  | "cdrom"
  | "cloudinit"
  | "mount"
  | "bind"
  | "root"
  | "unused"
  | "net"
  | "other";

export interface Device extends ShownOption {
  readonly key: string;
  readonly sort: DeviceSort;
  /** Its value as it will be at the next start, or as it is when it will be gone. */
  readonly text: string;
}

const STEMS: Readonly<Record<GuestKind, readonly string[]>> = {
  lxc: ["rootfs", "mp", "unused", "net", "dev"],
  qemu: [
    "efidisk",
    "tpmstate",
    "scsi",
    "virtio",
    "sata",
    "ide",
    "unused",
    "net",
    "usb",
    "hostpci",
    "serial",
    "parallel",
    "audio",
    "rng",
    "watchdog",
    "virtiofs",
    "ivshmem",
  ],
};

const NAMES: Readonly<Record<string, string>> = {
  audio: "Sound card",
  dev: "Device",
  efidisk: "EFI disk",
  hostpci: "PCI device",
  ivshmem: "Shared memory",
  parallel: "Parallel port",
  rng: "Random numbers",
  serial: "Serial port",
  tpmstate: "TPM state",
  unused: "Unused volume",
  usb: "USB device",
  virtiofs: "Shared folder",
  watchdog: "Watchdog",
};

const CLOUD_INIT = /^(cicustom|cipassword|citype|ciupgrade|ciuser|ipconfig\d+|sshkeys)$/;
const NOT_SHOWN = new Set(["boot", "bootdisk", "cdrom", "description", "digest", "lock", "parent", "template", "tags"]);

export function isDevice(kind: GuestKind, key: string): boolean {
  return STEMS[kind].includes(stemOf(key)) && (/\d$/.test(key) || ["rootfs", "watchdog", "ivshmem"].includes(key));
}

export function isCloudInitKey(key: string): boolean {
  return CLOUD_INIT.test(key);
}

/** Whether an option has its place in another table than the options'. */
export function elsewhere(kind: GuestKind, key: string): boolean {
  const dns = kind === "qemu" && (key === "nameserver" || key === "searchdomain");
  return isDevice(kind, key) || isCloudInitKey(key) || dns || NOT_SHOWN.has(key);
}

function sortOf(kind: GuestKind, key: string, text: string): DeviceSort {
  const stem = stemOf(key);
  if (key === "rootfs") {
    return "root";
  }
  if (stem === "mp") {
    return volumeOf(kind, key, text) === undefined ? "bind" : "mount";
  }
  if (stem === "unused" || stem === "net") {
    return stem;
  }
  if (stem === "efidisk" || stem === "tpmstate") {
    return "firmware";
  }
  if (!isDriveKey(key)) {
    return "other";
  }
  if (isCloudInitDrive(text)) {
    return "cloudinit";
  }
  return isCdrom(text) ? "cdrom" : "disk";
}

const SORTS: Readonly<Partial<Record<DeviceSort, string>>> = {
  bind: "Bind mount",
  cdrom: "CD-ROM drive",
  cloudinit: "Cloud-init drive",
  disk: "Disk",
  mount: "Mount point",
  net: "Network",
  root: "Root file system",
};

/** What a device is called: `Disk scsi0`. */
export function deviceLabel(key: string, sort: DeviceSort): string {
  const name = SORTS[sort] ?? NAMES[stemOf(key)];
  return name === undefined || key === "rootfs" ? (name ?? key) : `${name} ${key}`;
}

/** The devices of a guest in their order. */
export function devices(kind: GuestKind, rows: readonly OptionRow[]): Device[] {
  const found = rows.filter((row) => isDevice(kind, row.key)).sort(byKey(STEMS[kind]));
  return found.map((row) => {
    const text = wanted(row) ?? String(row.value ?? "");
    const sort = sortOf(kind, row.key, text);
    const waits = row.delete ? "removed" : row.pending;
    return {
      id: row.key,
      key: row.key,
      sort,
      text,
      label: deviceLabel(row.key, sort),
      keys: [row.key],
      now: row.value === undefined ? "not there yet" : toldParts(kind, row.key, String(row.value)),
      set: row.value !== undefined,
      ...(waiting([row]).length > 0 &&
        waits !== undefined && { waits: row.delete ? "removed" : toldParts(kind, row.key, String(waits)) }),
    };
  });
}

export interface NewDevice {
  readonly stem: string;
  readonly label: string;
  readonly limit: number;
  /** What the option is at first. */
  readonly initial: string;
  /** Its only number, where it has but one. */
  readonly key?: string;
}

const ONE = 1;

export function newDevices(kind: GuestKind): readonly NewDevice[] {
  return kind === "lxc"
    ? [
        { stem: "mp", label: "Mount point", limit: 256, initial: ":8" },
        { stem: "net", label: "Network interface", limit: 32, initial: "" },
        { stem: "dev", label: "Device", limit: 256, initial: "" },
      ]
    : [
        { stem: "net", label: "Network card", limit: 32, initial: "virtio" },
        { stem: "usb", label: "USB device", limit: 14, initial: "" },
        { stem: "hostpci", label: "PCI device", limit: 16, initial: "" },
        { stem: "serial", label: "Serial port", limit: 4, initial: "socket" },
        { stem: "audio", label: "Sound card", limit: ONE, initial: "ich9-intel-hda,driver=none", key: "audio0" },
        { stem: "rng", label: "Random numbers", limit: ONE, initial: "/dev/urandom", key: "rng0" },
        { stem: "watchdog", label: "Watchdog", limit: ONE, initial: "i6300esb,action=reset", key: "watchdog" },
      ];
}

/** What is asked of a device that has no form of its own. */
export const DEVICE_PARTS: Readonly<Record<string, readonly FieldSpec[]>> = {
  audio: [
    { name: "device", label: "Model" },
    { name: "driver", label: "Sound goes to" },
  ],
  dev: [
    { name: "path", label: "Path on the host", placeholder: "/dev/dri/renderD128" },
    { name: "mode", label: "Mode", placeholder: "0660" },
    { name: "uid", label: "Owner in the CT (UID)" },
    { name: "gid", label: "Group in the CT (GID)" },
    { name: "deny-write", label: "Read only" },
  ],
  efidisk: [{ name: "pre-enrolled-keys", label: "Usual keys, Secure Boot on" }],
  ivshmem: [
    { name: "size", label: "Size (MiB)" },
    { name: "name", label: "Name" },
  ],
  rng: [
    { name: "source", label: "Source" },
    { name: "max_bytes", label: "Bytes each period", help: "0 is no limit." },
    { name: "period", label: "Period (ms)" },
  ],
  watchdog: [
    { name: "model", label: "Model" },
    { name: "action", label: "When it is not reset in time" },
  ],
};
