/** A guest's options as rows of a table and as forms: which belong together, what they are called, how they read. */
import { type OptionRow, waiting, wanted } from "./guestConfig";
import { defaultKeyOf, type GuestKind, isOn, partsOf } from "./propertyString";
import type { FieldSpec } from "./schema";
import { bytes } from "./units";

export type Texts = Readonly<Record<string, string>>;

export interface OptionGroup {
  readonly id: string;
  readonly label: string;
  readonly keys: readonly string[];
  readonly fields: readonly FieldSpec[];
  /** How the values read; only called when one of the keys is set. */
  readonly told: (values: Texts) => string;
  /** What holds when none is set. */
  readonly otherwise: string;
}

const MIB = 1024 ** 2;

function flag(key: string, label: string, otherwise: boolean, help?: string): OptionGroup {
  const word = (on: boolean) => (on ? "yes" : "no");
  return {
    id: key,
    label,
    keys: [key],
    fields: [{ name: key, label, on: otherwise, ...(help !== undefined && { help }) }],
    told: (values) => word(isOn(values[key], otherwise)),
    otherwise: word(otherwise),
  };
}

/** A row of one text, told as it stands. */
export function text(
  key: string,
  label: string,
  otherwise: string,
  more: Partial<Exclude<FieldSpec, string>> = {},
): OptionGroup {
  return {
    id: key,
    label,
    keys: [key],
    fields: [{ name: key, label, ...more }],
    told: (values) => values[key] ?? otherwise,
    otherwise,
  };
}

const FLAGS = new Set(
  "acl backup deny-write enabled firewall force_rw_sys freeze-fs fstrim_cloned_disks fuse iothread keyctl link_down mknod nesting pcie pre-enrolled-keys quota replicate ro rombar shared ssd usb3 x-vga".split(
    " ",
  ),
);
/** First parts that say little without their name. */
const NAMED = new Set(["enabled", "legacy", "order"]);

/** Parts as `value, name value`: the first without its name where its value tells it, and no numbers for yes and no. */
export function toldParts(kind: GuestKind, key: string, value: string): string {
  const first = defaultKeyOf(kind, key);
  return Object.entries(partsOf(kind, key, value))
    .map(([name, part]) => {
      if (FLAGS.has(name)) {
        return isOn(part) ? name : `no ${name}`;
      }
      return name === first && !NAMED.has(name) ? part : `${name} ${part}`;
    })
    .join(", ");
}

function parts(
  kind: GuestKind,
  key: string,
  label: string,
  otherwise: string,
  asked: readonly FieldSpec[],
  help?: string,
): OptionGroup {
  return {
    ...text(key, label, otherwise, { parts: asked, ...(help !== undefined && { help }) }),
    told: (values) => toldParts(kind, key, values[key] ?? ""),
  };
}

function startup(kind: GuestKind): OptionGroup {
  const asked: FieldSpec[] = [
    { name: "order", label: "Order", help: "Lower numbers start first and stop last." },
    { name: "up", label: "Seconds to wait after its start" },
    { name: "down", label: "Seconds it may take to shut down" },
  ];
  return parts(kind, "startup", "Start and stop order", "any", asked);
}

const size = (mebibytes: string | undefined, otherwise: number) => bytes(Number(mebibytes ?? otherwise) * MIB);

const CPU_SHARE: readonly FieldSpec[] = [
  { name: "cpulimit", label: "CPU limit", help: "So many CPUs' time at most; 0 is no limit." },
  { name: "cpuunits", label: "CPU weight", help: "Its share when the host's CPUs are all busy." },
];

const CT_HARDWARE: readonly OptionGroup[] = [
  {
    id: "memory",
    label: "Memory",
    keys: ["memory", "swap"],
    fields: [
      { name: "memory", label: "Memory (MiB)", placeholder: "512" },
      { name: "swap", label: "Swap (MiB)", placeholder: "512" },
    ],
    told: ({ memory, swap }) => `${size(memory, 512)}, ${size(swap, 512)} swap`,
    otherwise: "512 MiB, 512 MiB swap",
  },
  {
    id: "cpu",
    label: "CPU",
    keys: ["cores", "cpulimit", "cpuunits"],
    fields: [{ name: "cores", label: "Cores", help: "Empty: all of the host's." }, ...CPU_SHARE],
    told: ({ cores, cpulimit, cpuunits }) =>
      cpuTold(cores === undefined ? "all cores" : plural(cores, "core"), cpulimit, cpuunits),
    otherwise: "all cores",
  },
];

function plural(count: string, what: string): string {
  return `${count} ${what}${count === "1" ? "" : "s"}`;
}

function cpuTold(cores: string, limit: string | undefined, units: string | undefined): string {
  const told = [cores];
  if (limit !== undefined && limit !== "0") {
    told.push(`at most ${limit} CPUs' time`);
  }
  if (units !== undefined) {
    told.push(`weight ${units}`);
  }
  return told.join(", ");
}

const CT_OPTIONS: readonly OptionGroup[] = [
  text("hostname", "Host name", "CT and its number"),
  text("tags", "Tags", "none", { many: true, open: true, options: [] }),
  flag("onboot", "Start with the host", false),
  startup("lxc"),
  flag("protection", "Protection", false, "It and its volumes cannot be removed."),
  text("nameserver", "DNS servers", "the host's", { help: "Addresses, with spaces between them." }),
  text("searchdomain", "DNS search domain", "the host's"),
  text("timezone", "Time zone", "the template's", { help: "host, or a name such as Europe/Vienna." }),
  parts("lxc", "features", "Features", "none", [
    { name: "nesting", label: "Nesting", help: "Containers and systemd's own walls inside; it sees more of the host." },
    { name: "keyctl", label: "keyctl", help: "The key store of the kernel, for Docker." },
    { name: "fuse", label: "FUSE" },
    { name: "mknod", label: "Device nodes" },
    { name: "force_rw_sys", label: "/sys can be written" },
    { name: "mount", label: "File systems it may mount", help: "nfs;cifs" },
  ]),
  flag("console", "Console", true),
  text("cmode", "Console mode", "tty"),
  text("tty", "Terminals", "2"),
  text("ostype", "Operating system", "as found"),
  text("entrypoint", "First program", "/sbin/init"),
  text("hookscript", "Hook script", "none", { help: "A volume of snippets, such as local:snippets/hook.sh." }),
  flag("debug", "Debug log", false),
];

const VM_HARDWARE: readonly OptionGroup[] = [
  {
    id: "memory",
    label: "Memory",
    keys: ["memory", "balloon", "shares"],
    fields: [
      { name: "memory", label: "Memory (MiB)", placeholder: "512" },
      { name: "balloon", label: "At least (MiB)", help: "What ballooning leaves it; 0 is no ballooning." },
      { name: "shares", label: "Weight", help: "Its share of what ballooning gives." },
    ],
    told: ({ memory, balloon, shares }) =>
      [
        size(memory, 512),
        ...(balloon === undefined || balloon === "0" ? [] : [`at least ${size(balloon, 0)}`]),
        ...(balloon === "0" ? ["no ballooning"] : []),
        ...(shares === undefined ? [] : [`weight ${shares}`]),
      ].join(", "),
    otherwise: "512 MiB",
  },
  {
    id: "cpu",
    label: "Processors",
    keys: ["sockets", "cores", "vcpus", "cpu", "cpulimit", "cpuunits", "numa", "affinity"],
    fields: [
      { name: "sockets", label: "Sockets", placeholder: "1" },
      { name: "cores", label: "Cores of each socket", placeholder: "1" },
      { name: "vcpus", label: "CPUs at its start", help: "Empty: all. More can be added while it runs." },
      ...CPU_SHARE,
      { name: "numa", label: "NUMA" },
      { name: "affinity", label: "Host CPUs", help: "0,5,8-11; empty: any." },
      {
        name: "cpu",
        label: "CPU type",
        parts: [
          { name: "cputype", label: "Model", help: "host, or a model that other hosts have, too." },
          { name: "flags", label: "Flags", help: "+aes;-pcid" },
        ],
      },
    ],
    told: ({ sockets = "1", cores = "1", vcpus, cpu, cpulimit, cpuunits }) =>
      [
        cpuTold(`${plural(sockets, "socket")}, ${plural(cores, "core")} each`, cpulimit, cpuunits),
        ...(vcpus === undefined ? [] : [`${vcpus} at its start`]),
        ...(cpu === undefined ? [] : [cpu]),
      ].join(", "),
    otherwise: "1 socket, 1 core",
  },
  text("bios", "Firmware", "seabios", { help: "ovmf is UEFI; it needs an EFI disk." }),
  parts("qemu", "machine", "Machine", "pc", [
    { name: "type", label: "Type", options: ["pc", "q35"], open: true },
    { name: "viommu", label: "Virtual IOMMU" },
  ]),
  parts("qemu", "vga", "Display", "std", [
    { name: "type", label: "Type" },
    { name: "memory", label: "Memory (MiB)" },
    { name: "clipboard", label: "Clipboard" },
  ]),
  text("scsihw", "SCSI controller", "lsi"),
];

const VM_OPTIONS: readonly OptionGroup[] = [
  text("name", "Name", "VM and its number"),
  text("tags", "Tags", "none", { many: true, open: true, options: [] }),
  flag("onboot", "Start with the host", false),
  startup("qemu"),
  flag("protection", "Protection", false, "It and its disks cannot be removed."),
  text("ostype", "Operating system", "other", { help: "l26 is Linux; it decides which devices and clock it gets." }),
  parts("qemu", "agent", "Guest agent", "no", [
    { name: "enabled", label: "It has the agent", help: "qemu-guest-agent is installed in it." },
    { name: "fstrim_cloned_disks", label: "Trim its disks after a move or clone" },
    { name: "freeze-fs", label: "Freeze its file systems for backups and snapshots", on: true },
    { name: "type", label: "Port" },
  ]),
  text("hotplug", "Hotplug", "network,disk,usb", {
    many: true,
    options: ["network", "disk", "usb", "cpu", "memory", "cloudinit"],
    help: "What is changed while it runs; the rest waits for its next start.",
  }),
  flag("tablet", "Pointer as a tablet", true, "Keeps the pointer in step over VNC."),
  text("keyboard", "Keyboard", "the client's"),
  flag("acpi", "ACPI", true),
  flag("kvm", "KVM", true),
  flag("freeze", "Paused at its start", false),
  flag("localtime", "Clock in local time", false),
  text("startdate", "Clock at its start", "now", { help: "now, or 2026-06-17T16:01:21." }),
  flag("reboot", "May reboot by itself", true, "Else a reboot ends it."),
  flag("allow-ksm", "Share equal memory", true),
  text("vmstatestorage", "Storage for memory", "beside its disks"),
  parts("qemu", "smbios1", "SMBIOS", "none", ["uuid", "manufacturer", "product", "version", "serial", "sku", "family"]),
  parts("qemu", "spice_enhancements", "SPICE", "none", ["foldersharing", "videostreaming"]),
  text("hookscript", "Hook script", "none", { help: "A volume of snippets, such as local:snippets/hook.pl." }),
];

export function hardwareOf(kind: GuestKind): readonly OptionGroup[] {
  return kind === "lxc" ? CT_HARDWARE : VM_HARDWARE;
}

export function optionsOf(kind: GuestKind): readonly OptionGroup[] {
  return kind === "lxc" ? CT_OPTIONS : VM_OPTIONS;
}

/** Options that neither the hardware, the options nor the other tabs show, such as `args` or `meta`. */
export function unnamed(kind: GuestKind, keys: readonly string[], elsewhere: (key: string) => boolean): string[] {
  const named = new Set([...hardwareOf(kind), ...optionsOf(kind)].flatMap((group) => group.keys));
  return keys.filter((key) => !named.has(key) && !elsewhere(key));
}

export interface ShownOption {
  readonly id: string;
  readonly label: string;
  readonly keys: readonly string[];
  readonly now: string;
  /** Whether one of its keys is set. */
  readonly set: boolean;
  /** What it will be at the next start, when that is something else. */
  readonly waits?: string;
}

function textsOf(keys: readonly string[], rows: readonly OptionRow[], read: (row: OptionRow) => unknown): Texts {
  const found = rows.filter((row) => keys.includes(row.key)).map((row) => [row.key, read(row)] as const);
  return Object.fromEntries(
    found.filter(([, value]) => value !== undefined).map(([key, value]) => [key, String(value)]),
  );
}

/** A group with what is and what waits. */
export function shown(group: OptionGroup, rows: readonly OptionRow[]): ShownOption {
  const told = (texts: Texts) => (Object.keys(texts).length === 0 ? group.otherwise : group.told(texts));
  const now = textsOf(group.keys, rows, (row) => row.value);
  const changed = waiting(rows).some((row) => group.keys.includes(row.key));
  const later = textsOf(group.keys, rows, wanted);
  return {
    id: group.id,
    label: group.label,
    keys: group.keys,
    now: told(now),
    set: Object.keys(now).length > 0,
    ...(changed && { waits: told(later) }),
  };
}

/** What a form begins with: the values as they will be at the next start. */
export function formValues(keys: readonly string[], rows: readonly OptionRow[]): Texts {
  return textsOf(keys, rows, wanted);
}
