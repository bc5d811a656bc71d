/** What is wrong with names, addresses and keys, in words, before the API is asked; it has the last word. */

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;

export function nameFault(text: string): string | undefined {
  return text === "" || text.split(".").every((label) => LABEL.test(label))
    ? undefined
    : "a DNS name has letters, digits and hyphens, at most 63 between dots";
}

function isIpv4(text: string): boolean {
  const bytes = text.split(".");
  return bytes.length === 4 && bytes.every((byte) => /^\d{1,3}$/.test(byte) && Number(byte) < 256);
}

function isIpv6(text: string): boolean {
  return /^[0-9a-f:.]+$/i.test(text) && URL.canParse(`http://[${text}]/`);
}

function withPrefix(text: string, most: number, isAddress: (text: string) => boolean): boolean {
  const [address = "", prefix = "", ...more] = text.split("/");
  return more.length === 0 && isAddress(address) && /^\d{1,3}$/.test(prefix) && Number(prefix) <= most;
}

type Parts = Readonly<Record<string, string | undefined>>;

/** What is wrong with the addresses of an interface (`net0` of a CT, `ipconfig0`), after the name of the part. */
export function addressesFault({ ip, gw, ip6, gw6 }: Parts): string | undefined {
  if (ip && !["dhcp", "manual"].includes(ip) && !withPrefix(ip, 32, isIpv4)) {
    return "ip: an address with its prefix, such as 10.0.0.5/24, or dhcp";
  }
  if (gw && !isIpv4(gw)) {
    return "gw: an IPv4 address, such as 10.0.0.1";
  }
  if (ip6 && !["auto", "dhcp", "manual"].includes(ip6) && !withPrefix(ip6, 128, isIpv6)) {
    return "ip6: an address with its prefix, such as fd00::5/64, auto or dhcp";
  }
  return gw6 && !isIpv6(gw6) ? "gw6: an IPv6 address, such as fd00::1" : undefined;
}

const KEY = /(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[\w@.-]+)\s+([A-Za-z0-9+/]+=*)/;

/** Whether the fields that the blob begins with end where it ends: a key that is cut, by a line break too, does not. */
function isWhole(blob: string): boolean {
  let bytes = "";
  try {
    bytes = atob(blob);
  } catch {
    return false;
  }
  let at = 0;
  while (at < bytes.length) {
    const length = [0, 1, 2, 3].reduce((sum, index) => sum * 256 + bytes.charCodeAt(at + index), 0);
    at += Number.isNaN(length) ? Number.POSITIVE_INFINITY : 4 + length;
  }
  return at === bytes.length && at > 0;
}

/** What is wrong with public SSH keys, one a line. */
export function keysFault(text: string): string | undefined {
  const lines = text.split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    const [, , blob] = KEY.exec(line) ?? [];
    if (line.trim() !== "" && !line.startsWith("#") && (blob === undefined || !isWhole(blob))) {
      const what = blob === undefined ? "is not a public SSH key" : "is only a part of a public SSH key";
      return lines.length > 1 ? `line ${index + 1} ${what}` : what;
    }
  }
  return undefined;
}
