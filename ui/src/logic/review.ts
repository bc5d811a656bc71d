/** What mends a finding of a review, as an action where the page can do it. */
import { type Action, path, shellCommand } from "./actions";

/** The words of a command line, unquoted. */
export function shellSplit(line: string): string[] {
  return [...line.matchAll(/(?:[^\s'"\\]|'[^']*'|"[^"]*"|\\.)+/g)].map(([word]) =>
    word.replace(/'([^']*)'|"([^"]*)"|\\(.)/g, (_, single, double, escaped) => single ?? double ?? escaped ?? ""),
  );
}

export interface Reviewed {
  readonly vmid: number;
  readonly name: string;
  readonly kind: "ct" | "vm";
}

const DISK = /^(ide|sata|scsi|virtio)\d+$/;

/** The key of the disk that a guest boots from. */
export function bootDisk(config: Readonly<Record<string, unknown>>): string | undefined {
  if ("rootfs" in config) {
    return "rootfs";
  }
  const drives = Object.keys(config).filter(
    (key) => DISK.test(key) && !/,media=cdrom|cloudinit|^none/.test(`${config[key]}`),
  );
  const order = /order=([^,]+)/.exec(String(config.boot ?? ""))?.[1]?.split(";") ?? [];
  return order.find((key) => drives.includes(key)) ?? (drives.length === 1 ? drives[0] : undefined);
}

function settings(command: string, words: readonly string[], guest: Reviewed, base: string): Action | undefined {
  const parameters: Record<string, string> = {};
  for (let index = 0; index < words.length; index += 1) {
    const [key = "", ...value] = (words[index] ?? "").split("=");
    if (key === "--delete") {
      index += 1;
      parameters.delete = words[index] ?? "";
    } else if (key.startsWith("-") || value.length === 0) {
      return undefined;
    } else {
      parameters[key] = value.join("=");
    }
  }
  const what = Object.entries(parameters).map(([key, value]) => (key === "delete" ? `no ${value}` : `${key}=${value}`));
  return {
    title: `Set ${what.join(", ")} of ${guest.name}`,
    method: "PUT",
    path: `${base}/config`,
    parameters,
    command,
  };
}

function launch(command: string, [image = "", name = "", ...options]: readonly string[]): Action {
  const value = (option: string) => {
    const at = options.indexOf(option);
    return at < 0 ? undefined : options[at + 1];
  };
  const parameters = {
    name,
    os: image,
    kind: options.includes("--vm") ? "vm" : "ct",
    cores: value("--cores"),
    memory: value("--memory"),
    disk: value("--disk"),
  };
  return { title: `Launch ${name}`, method: "POST", path: "/architect/launch", parameters, command };
}

/** The action that a command stands for; undefined for what only shows something. */
export function mend(command: string, guest: Reviewed, node: string, disk: string | undefined): Action | undefined {
  const [program, verb, ...words] = shellSplit(command);
  const base = path`/nodes/${node}/${guest.kind === "ct" ? "lxc" : "qemu"}/${guest.vmid}`;
  if (program !== "bastide") {
    return undefined;
  }
  switch (verb) {
    case "set":
      return settings(command, words.slice(1), guest, base);
    case "resize":
      return disk === undefined
        ? undefined
        : {
            title: `Grow ${disk} of ${guest.name} by ${words[1]?.replace("+", "")}`,
            method: "PUT",
            path: `${base}/resize`,
            parameters: { disk, size: words[1] },
            command,
          };
    case "launch":
      return launch(command, words);
    case "rm":
      return {
        title: `Remove ${guest.name}`,
        method: "DELETE",
        path: base,
        parameters: { purge: true },
        command: shellCommand("bastide", "rm", words[0] ?? guest.name),
        danger: true,
        loses: [`${guest.kind.toUpperCase()} ${guest.vmid} (${guest.name}) with its disks and snapshots`],
        typed: guest.name,
      };
    default:
      return undefined;
  }
}
