/** What cloud-init in a guest is told, as rows and forms. */

import type { OptionGroup, Texts } from "./guestOptions";
import { toldParts } from "./guestOptions";
import type { FieldSpec } from "./schema";

/** Keys are stored percent-encoded; what cannot be decoded is told as it is. */
export function decodedKeys(text: string): string {
  try {
    return decodeURIComponent(text).trim();
  } catch {
    return text;
  }
}

function one(
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

function keysTold(values: Texts): string {
  const lines = decodedKeys(values.sshkeys ?? "")
    .split("\n")
    .filter((line) => line.trim() !== "");
  // The key itself says nothing to a reader; its kind and its comment do.
  const short = lines.map((line) => {
    const [kind = "", , ...comment] = line.split(" ");
    return [kind, ...comment].join(" ");
  });
  return short.length === 0 ? "none" : short.join(", ");
}

const ADDRESSES: readonly FieldSpec[] = [
  { name: "ip", label: "IPv4", options: ["dhcp"], open: true, help: "dhcp or ADDRESS/PREFIX" },
  { name: "gw", label: "IPv4 gateway" },
  { name: "ip6", label: "IPv6", options: ["auto", "dhcp"], open: true, help: "auto, dhcp or ADDRESS/PREFIX" },
  { name: "gw6", label: "IPv6 gateway" },
];

function addresses(index: string): OptionGroup {
  const key = `ipconfig${index}`;
  return {
    ...one(key, `Addresses of net${index}`, "DHCP", { parts: ADDRESSES }),
    told: (values) => toldParts("qemu", key, values[key] ?? ""),
  };
}

/** The options of a VM with these network cards. */
export function cloudInitGroups(keys: readonly string[]): OptionGroup[] {
  const indexes = keys.flatMap((key) => /^net(\d+)$/.exec(key)?.[1] ?? []);
  return [
    one("ciuser", "User", "the image's own"),
    {
      ...one("cipassword", "Password", "none", { secret: true, help: "Kept as a hash, and never shown." }),
      told: () => "set",
    },
    {
      ...one("sshkeys", "Public SSH keys", "none", { lines: 4, help: "One a line." }),
      told: keysTold,
    },
    ...indexes.sort((a, b) => Number(a) - Number(b)).map(addresses),
    one("nameserver", "DNS servers", "the host's", { help: "Addresses, with spaces between them." }),
    one("searchdomain", "DNS search domain", "the host's"),
    {
      ...one("ciupgrade", "Upgrade packages at the first boot", "yes", { on: true }),
      told: ({ ciupgrade }) => (ciupgrade === "0" ? "no" : "yes"),
    },
    one("citype", "Format", "by the operating system", { options: ["nocloud", "configdrive2"] }),
    {
      ...one("cicustom", "Snippets", "none", { parts: ["user", "network", "vendor", "meta"] }),
      told: ({ cicustom = "" }) => toldParts("qemu", "cicustom", cicustom),
    },
  ];
}

/** The values that a form begins with: keys in the clear, and no password. */
export function formTexts(texts: Texts): Texts {
  const { cipassword: _, sshkeys, ...rest } = texts;
  return sshkeys === undefined ? rest : { ...rest, sshkeys: decodedKeys(sshkeys) };
}

/** What a form holds, as the API takes it. */
export function sentTexts(texts: Texts): Texts {
  const { sshkeys, ...rest } = texts;
  return sshkeys ? { ...rest, sshkeys: encodeURIComponent(sshkeys.trim()) } : texts;
}

/** A text that the guest is told, without what a password is made of. */
export function withoutSecrets(text: string): string {
  return text.replace(
    /^(\s*-?\s*"?(?:password|passwd|hashed_passwd|plain_text_passwd|admin_pass)"?\s*:\s*).+$/gm,
    "$1(not shown)",
  );
}
