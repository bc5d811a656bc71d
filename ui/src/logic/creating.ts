/** What a new guest is made of: sensible values, the calls that make it, and which step of a form a fault belongs to. */
import { type Action, path } from "./actions";
import { addressesFault, keysFault, nameFault } from "./addresses";
import { parse, partsOf, textOf } from "./propertyString";
import { type Faults, given, type Values } from "./schema";
import { newVolumeFault, parseNewVolume } from "./volumes";

/** A step of a wizard and the parameters that are asked for on it; indexed ones by their stem. */
export interface StepPlan {
  readonly key: string;
  readonly title: string;
  readonly names: readonly string[];
}

/** The step that a parameter is asked for on; the last one for what none asks for. */
export function stepOf(plans: readonly StepPlan[], name: string): string {
  const stem = name.replace(/\d+$/, "");
  const found = plans.find((plan) => plan.names.includes(name) || plan.names.includes(stem));
  return found?.key ?? plans.at(-1)?.key ?? "";
}

/** The next free name of an indexed option: `net1` where there is `net0`. */
export function nextIndexed(values: Values, stem: string): string {
  for (let index = 0; ; index += 1) {
    if ((values[`${stem}${index}`] ?? "") === "") {
      return `${stem}${index}`;
    }
  }
}

/** The indexed options that have a value, in order. */
export function indexed(values: Values, stem: string): string[] {
  const pattern = new RegExp(`^${stem}(\\d+)$`);
  const found = Object.keys(values).filter((name) => pattern.test(name) && values[name] !== "");
  return found.sort((one, other) => Number(one.slice(stem.length)) - Number(other.slice(stem.length)));
}

/** One call of a creation. */
export interface CreationStep {
  readonly action: Action;
  /** The disk that it grows, which it need not when the image is as large. */
  readonly grows?: { readonly disk: string; readonly mebibytes: number };
}

export interface HostFacts {
  readonly vmid: string;
  readonly bridge: string;
  readonly storage: string;
  readonly cpus?: number | undefined;
  /** Whether the host's own processor can be given to a VM. */
  readonly hostCpu?: boolean;
  readonly image?: string | undefined;
}

export function containerDefaults({ vmid, bridge, storage, image = "" }: HostFacts): Values {
  return {
    vmid,
    ostemplate: image,
    rootfs: `${storage}:8`,
    memory: "1024",
    unprivileged: "1",
    features: "nesting=1",
    net0: `name=eth0,bridge=${bridge},ip=dhcp,ip6=auto`,
    start: "1",
  };
}

export function containerFaults(values: Values): Faults {
  const volumes = ["rootfs", ...indexed(values, "mp")];
  const found: [string, string | undefined][] = [
    ["hostname", nameFault(values.hostname ?? "")],
    ["ssh-public-keys", keysFault(values["ssh-public-keys"] ?? "")],
    ...volumes.map((name): [string, string | undefined] => {
      const parts = partsOf("lxc", name, values[name] ?? "");
      const pathless = name !== "rootfs" && !parts.mp ? "mp: is needed" : undefined;
      return [name, newVolumeFault(parts.volume ?? "") ?? pathless];
    }),
    ...indexed(values, "net").map((name): [string, string | undefined] => {
      const parts = partsOf("lxc", name, values[name] ?? "");
      return [name, parts.name ? (bridgeFault(parts) ?? addressesFault(parts)) : "name: is needed"];
    }),
  ];
  return kept(found);
}

function bridgeFault(parts: Readonly<Record<string, string>>): string | undefined {
  return parts.bridge ? undefined : "bridge: is needed";
}

function kept(found: readonly [string, string | undefined][]): Faults {
  return Object.fromEntries(found.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

export function containerSteps(node: string, values: Values): CreationStep[] {
  const title = `Create CT ${values.hostname || values.vmid}`;
  return [{ action: { title, method: "POST", path: path`/nodes/${node}/lxc`, parameters: given(values) } }];
}

/** What a VM's system comes from. */
export type Source = "image" | "iso" | "none";

/** What a form knows of a new VM that is no parameter of the call. */
export interface MachineChoice {
  readonly source: Source;
  readonly image: string;
  readonly iso: string;
  /** The system's disk as it shall be: `local:16,discard=on`. */
  readonly disk: string;
  readonly uefi: boolean;
  readonly secureBoot: boolean;
  readonly tpm: boolean;
}

const LINUX = ["l24", "l26"];
const MODERN = ["l26", "win10", "win11"];

export function isLinux(values: Values): boolean {
  return LINUX.includes(values.ostype || "l26");
}

/** Where the system's disk is: virtio's drivers are Linux' alone. */
export function systemDisk(values: Values): "scsi0" | "sata0" {
  return isLinux(values) ? "scsi0" : "sata0";
}

export function machineDefaults({ vmid, bridge, cpus = 2, hostCpu = false }: HostFacts): Values {
  return {
    vmid,
    ostype: "l26",
    cores: String(Math.min(2, cpus)),
    memory: "2048",
    net0: `virtio,bridge=${bridge}`,
    ipconfig0: "ip=dhcp,ip6=auto",
    start: "1",
    ...(hostCpu && { cpu: "host" }),
  };
}

export function machineChoice({ storage, image }: HostFacts, iso: string | undefined): MachineChoice {
  const source = image !== undefined ? "image" : iso !== undefined ? "iso" : "none";
  const disk = `${storage}:16,iothread=1,discard=on`;
  return { source, image: image ?? "", iso: iso ?? "", disk, uefi: false, secureBoot: false, tpm: false };
}

export function machineFaults(values: Values, choice: MachineChoice): Faults {
  const disks = [...indexed(values, "scsi"), ...indexed(values, "sata"), ...indexed(values, "virtio")];
  const sized = partsOf("qemu", "scsi0", choice.disk).file ?? "";
  const cloud = choice.source === "image";
  return kept([
    ["name", nameFault(values.name ?? "")],
    ["sshkeys", cloud ? keysFault(values.sshkeys ?? "") : undefined],
    ["ipconfig0", cloud ? addressesFault(parse(values.ipconfig0 ?? "")) : undefined],
    ["image", choice.source === "image" && choice.image === "" ? "is needed" : undefined],
    ["iso", choice.source === "iso" && choice.iso === "" ? "is needed" : undefined],
    ["disk", newVolumeFault(sized)],
    ...disks.map((name): [string, string | undefined] => [
      name,
      newVolumeFault(partsOf("qemu", name, values[name] ?? "").file ?? ""),
    ]),
    ...indexed(values, "net").map((name): [string, string | undefined] => [
      name,
      bridgeFault(partsOf("qemu", name, values[name] ?? "")),
    ]),
  ]);
}

function diskOf(values: Values, choice: MachineChoice): { text: string; storage: string; size: string } {
  const { iothread, ...parts } = partsOf("qemu", "scsi0", choice.disk);
  const { storage = "", size = "" } = parseNewVolume(parts.file ?? "") ?? {};
  const all = {
    ...parts,
    ...(choice.source === "image" && { file: `${storage}:0`, "import-from": choice.image }),
    ...(isLinux(values) && { iothread }),
  };
  return { text: textOf("qemu", "scsi0", all), storage, size };
}

function firmware(values: Values, choice: MachineChoice, storage: string): Values {
  return {
    ...(MODERN.includes(values.ostype || "l26") && { machine: values.machine || "q35" }),
    ...((choice.uefi || choice.secureBoot) && {
      bios: "ovmf",
      efidisk0: `${storage}:1,efitype=4m,pre-enrolled-keys=${choice.secureBoot ? 1 : 0}`,
    }),
    ...(choice.tpm && { tpmstate0: `${storage}:1,version=v2.0` }),
  };
}

/** The parameters of the call that makes a VM. */
export function machineParameters(values: Values, choice: MachineChoice): Values {
  const { ipconfig0 = "", ciuser = "", cipassword = "", sshkeys = "", ...rest } = values;
  const { text, storage } = diskOf(values, choice);
  const paravirtual: Values = isLinux(values)
    ? { scsihw: "virtio-scsi-single", agent: "1", rng0: "source=/dev/urandom" }
    : {};
  const cloud: Values = {
    ide2: `${storage}:cloudinit`,
    // The packages of a whole release are not what a first boot should wait for.
    ciupgrade: "0",
    ipconfig0,
    ciuser,
    cipassword,
    // The parameter's text is percent-encoded inside of the call's encoding.
    sshkeys: encodeURIComponent(sshkeys.trim()),
  };
  return {
    ...rest,
    ...firmware(values, choice, storage),
    ...paravirtual,
    serial0: "socket",
    [systemDisk(values)]: text,
    ...(choice.source === "image" && cloud),
    ...(choice.source === "iso" && { ide2: `${choice.iso},media=cdrom` }),
  };
}

/** The calls that make a VM: an image's disk has to grow before the first start, so that the system finds it large. */
export function machineSteps(node: string, values: Values, choice: MachineChoice): CreationStep[] {
  const { start = "", vmid = "", ...parameters } = machineParameters(values, choice);
  const title = `Create VM ${values.name || vmid}`;
  const make = (more: Values): CreationStep => ({
    action: {
      title,
      method: "POST",
      path: path`/nodes/${node}/qemu`,
      parameters: given({ vmid, ...parameters, ...more }),
    },
  });
  const mebibytes = Math.ceil(Number(diskOf(values, choice).size) * 1024);
  if (choice.source !== "image") {
    return [make({ start })];
  }
  const disk = systemDisk(values);
  const of = path`/nodes/${node}/qemu/${vmid}`;
  const grow: CreationStep = {
    action: { title: `Grow ${disk}`, method: "PUT", path: `${of}/resize`, parameters: { disk, size: `${mebibytes}M` } },
    grows: { disk, mebibytes },
  };
  const boot: CreationStep = { action: { title: "Start it", method: "POST", path: `${of}/status/start` } };
  return [make({}), grow, ...(start === "1" ? [boot] : [])];
}

/** A size as a configuration has it, in MiB: `3G`, `2560M`, `4194304K`. */
export function mebibytesOf(size: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)$/.exec(size);
  if (match === null) {
    return undefined;
  }
  const factor = { "": 1 / 1024 / 1024, K: 1 / 1024, M: 1, G: 1024, T: 1024 * 1024 }[match[2] ?? ""] ?? 1;
  return Number(match[1]) * factor;
}

const WINDOWS = /^(w|win)/;

/** What a form changes with the kind of system: Windows brings no drivers of virtio's, and 11 asks for firmware and memory. */
export function systemValues(ostype: string, values: Values): Values {
  const windows = WINDOWS.test(ostype);
  const [from, to] = windows ? ["virtio", "e1000"] : ["e1000", "virtio"];
  const nets = indexed(values, "net").map((name): [string, string] => {
    const parts = partsOf("qemu", name, values[name] ?? "");
    return [name, parts.model === from ? textOf("qemu", name, { ...parts, model: to }) : (values[name] ?? "")];
  });
  const firmware = ostype === "win11" ? "1" : "";
  return {
    ostype,
    uefi: firmware,
    secureboot: firmware,
    tpm: firmware,
    ...(ostype === "win11" && Number(values.memory) < 4096 && { memory: "4096" }),
    ...Object.fromEntries(nets),
  };
}

const CHOSEN = ["source", "image", "iso", "disk", "uefi", "secureboot", "tpm"] as const;

/** The choice as a form holds it, beside the parameters. */
export function choiceValues(choice: MachineChoice): Values {
  return {
    source: choice.source,
    image: choice.image,
    iso: choice.iso,
    disk: choice.disk,
    uefi: choice.uefi ? "1" : "",
    secureboot: choice.secureBoot ? "1" : "",
    tpm: choice.tpm ? "1" : "",
  };
}

/** A form's values as the choice and the call's parameters. */
export function splitMachine(all: Values): { values: Values; choice: MachineChoice } {
  const values = Object.fromEntries(Object.entries(all).filter(([name]) => !CHOSEN.some((one) => one === name)));
  const source = all.source === "iso" || all.source === "none" ? all.source : "image";
  const choice: MachineChoice = {
    source,
    image: all.image ?? "",
    iso: all.iso ?? "",
    disk: all.disk ?? "",
    uefi: all.uefi === "1",
    secureBoot: all.secureboot === "1",
    tpm: all.tpm === "1",
  };
  return { values, choice };
}
