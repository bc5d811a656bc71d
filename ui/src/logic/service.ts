/** A service as somebody describes it, what is asked of the architect about it, and where it answers once it runs. */
import { type Action, type Parameters, shellCommand } from "./actions";
import { given, type Values } from "./schema";

/** Keys of the form that say how it is launched, and of which the architect knows nothing. */
const LAUNCH_ONLY = new Set(["keep", "storage", "image", "tags", "onboot", "ssh_keys"]);

function lists(values: Values): Parameters {
  const { devices, ssh_keys: keys, ...rest } = values;
  return {
    ...given(rest),
    ...(devices && { devices: devices.split(/[,\s]+/).filter(Boolean) }),
    ...(keys && { ssh_keys: keys.split("\n").filter((line) => line.trim() !== "") }),
  };
}

/** What is asked: `POST /architect/advise`. */
export function wish(values: Values): Parameters {
  return Object.fromEntries(Object.entries(lists(values)).filter(([name]) => !LAUNCH_ONLY.has(name)));
}

/** A host name that no guest has: the wanted one, with a number where it is taken. */
export function freeName(wanted: string, taken: ReadonlySet<string>): string {
  const base =
    wanted
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "") || "guest";
  let name = base;
  for (let number = 2; taken.has(name); number += 1) {
    name = `${base}-${number}`;
  }
  return name;
}

/** What the advised command needs beside for what is asked of the launch alone. */
function launchOptions({ storage, tags, ssh_keys: keys, onboot, keep }: Values): string {
  const words = [
    ...(storage ? ["--storage", storage] : []),
    ...(tags ?? "").split(/[;, ]+/).flatMap((tag) => (tag === "" ? [] : ["--tag", tag])),
    ...(keys ?? "").split("\n").flatMap((key) => (key.trim() === "" ? [] : ["--ssh-key", "KEY.pub"])),
    ...(onboot === "true" ? ["--onboot"] : []),
    ...(keep === "1" ? ["--keep"] : []),
  ];
  return words.length > 0 ? ` ${shellCommand(...words)}` : "";
}

/** Makes the guest, starts it and installs the service. */
export function launchAction(values: Values, name: string, command: string): Action {
  return {
    title: `Launch ${name}`,
    method: "POST",
    path: "/architect/launch",
    parameters: { ...lists(values), name, instances: undefined },
    command: command + launchOptions(values),
  };
}

export interface Probe {
  readonly type: string;
  readonly port?: number | null;
}

export interface Port {
  readonly port: number;
  readonly protocol?: string;
  readonly what?: string | null;
}

export interface Reachable {
  readonly ports?: readonly Port[];
  readonly recipe?: { readonly probe: Probe } | null;
}

/** Where a service answers: an address to open where it speaks HTTP, else its ports. */
export interface Place {
  readonly text: string;
  readonly url?: string;
}

export function placesOf(entry: Reachable, address: string): Place[] {
  const host = address.includes(":") ? `[${address}]` : address;
  const probe = entry.recipe?.probe;
  if (typeof probe?.port === "number" && (probe.type === "http" || probe.type === "https")) {
    const usual = probe.port === (probe.type === "http" ? 80 : 443);
    const url = `${probe.type}://${host}${usual ? "" : `:${probe.port}`}`;
    return [{ text: url, url }];
  }
  return (entry.ports ?? []).map((one) => ({ text: `${host}, port ${one.port}/${one.protocol ?? "tcp"}` }));
}

/** The vmid of the guest that a launch made: its log tells when it is not the one that the task was named by. */
export function launchedVmid(upid: string, log: readonly { readonly t: string }[]): number {
  const made = log.map((line) => /^making (?:CT|VM) (\d+) /.exec(line.t)?.[1]).filter((found) => found !== undefined);
  return Number(made.at(-1) ?? upid.split(":")[6]);
}

/**
 * The image to name when a service is launched: empty where its system's own is had by itself, undefined where somebody
 * has to bring a medium first.
 */
export function imageToLaunch(
  request: Readonly<Record<string, unknown>>,
  warnings: readonly string[],
): string | undefined {
  if (request.ostemplate !== undefined || String(request.ide2 ?? "").endsWith(":cloudinit")) {
    return "";
  }
  const missing = warnings.some((text) => text.startsWith("image: "));
  return missing ? undefined : /import-from=([^,]+)/.exec(String(request.scsi0 ?? ""))?.[1];
}

/** A size as it may be typed: `512M`, `4G`. */
export function sizeText(size: number): string {
  const mebibytes = Math.round(size / 1024 ** 2);
  return mebibytes % 1024 === 0 ? `${mebibytes / 1024}G` : `${mebibytes}M`;
}

/** The notes of an advice, without those on the guest's own call, which nobody makes who launches. */
export function notesOf(notes: readonly string[]): string[] {
  return notes.filter((note) => !note.startsWith("after the call, "));
}

/** The same address where a browser may follow it, undefined for anything but a page of the web. */
export function webAddress(text: string | undefined): string | undefined {
  return text !== undefined && /^https?:\/\/\S+$/.test(text) ? text : undefined;
}
