/**
 * What a guest says of itself. A guest is not to be trusted: what is not of the expected kind is left out, long texts are
 * cut, and long lists, too.
 */

const LONGEST_TEXT = 200;
const LONGEST_LIST = 256;

export interface SeenInterface {
  readonly name: string;
  readonly hwaddr?: string | undefined;
  readonly addresses: readonly string[];
  readonly received?: number | undefined;
  readonly sent?: number | undefined;
}

export interface FileSystem {
  readonly mountpoint: string;
  readonly used: number;
  readonly total: number;
}

export interface SystemTold {
  readonly system?: string | undefined;
  readonly kernel?: string | undefined;
  readonly hostname?: string | undefined;
  readonly filesystems: readonly FileSystem[];
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.slice(0, LONGEST_LIST).map(fields) : [];
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value.slice(0, LONGEST_TEXT) : undefined;
}

function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

/** The interfaces, each name once. */
export function interfacesOf(answer: unknown): SeenInterface[] {
  const found = list(answer).map((row): SeenInterface => {
    const traffic = fields(row.statistics);
    const addresses = list(row["ip-addresses"]).flatMap((one) => {
      const address = text(one["ip-address"]);
      return address === undefined ? [] : [`${address}/${count(one.prefix) ?? "?"}`];
    });
    return {
      name: text(row.name) ?? "?",
      hwaddr: text(row["hardware-address"]),
      addresses: [...new Set(addresses)],
      received: count(traffic["rx-bytes"]),
      sent: count(traffic["tx-bytes"]),
    };
  });
  return [...new Map(found.map((one) => [one.name, one])).values()];
}

/** What an agent tells by `get-osinfo`, `get-host-name` and `get-fsinfo`. */
export function systemOf(os: unknown, hostname: unknown, filesystems: unknown): SystemTold {
  const told = fields(os);
  const sized = list(filesystems).flatMap((row): FileSystem[] => {
    const [mountpoint, used, total] = [text(row.mountpoint), count(row["used-bytes"]), count(row["total-bytes"])];
    return mountpoint === undefined || used === undefined || total === undefined ? [] : [{ mountpoint, used, total }];
  });
  return {
    system: text(told["pretty-name"]) ?? text(told.name),
    kernel: text(told["kernel-release"]),
    hostname: text(fields(hostname)["host-name"]),
    filesystems: [...new Map(sized.map((one) => [one.mountpoint, one])).values()],
  };
}
