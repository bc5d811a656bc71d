/** What cloud-init in a guest is told, as rows and forms. */

import type { OptionGroup, Texts } from "./guestOptions";
import { text, toldParts } from "./guestOptions";
import type { FieldSpec } from "./schema";

/** Keys are stored percent-encoded; what cannot be decoded is told as it is. */
export function decodedKeys(keys: string): string {
  try {
    return decodeURIComponent(keys).trim();
  } catch {
    return keys;
  }
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
    ...text(key, `Addresses of net${index}`, "DHCP", { parts: ADDRESSES }),
    told: (values) => toldParts("qemu", key, values[key] ?? ""),
  };
}

/** The options of a VM with these network cards. */
export function cloudInitGroups(keys: readonly string[]): OptionGroup[] {
  const indexes = keys.flatMap((key) => /^net(\d+)$/.exec(key)?.[1] ?? []);
  return [
    text("ciuser", "User", "the image's own"),
    {
      ...text("cipassword", "Password", "none", { secret: true, help: "Kept as a hash, and never shown." }),
      told: () => "set",
    },
    {
      ...text("sshkeys", "Public SSH keys", "none", { lines: 4, help: "One a line." }),
      told: keysTold,
    },
    ...indexes.sort((a, b) => Number(a) - Number(b)).map(addresses),
    text("nameserver", "DNS servers", "the host's", { help: "Addresses, with spaces between them." }),
    text("searchdomain", "DNS search domain", "the host's"),
    {
      ...text("ciupgrade", "Upgrade packages at the first boot", "yes", { on: true }),
      told: ({ ciupgrade }) => (ciupgrade === "0" ? "no" : "yes"),
    },
    text("citype", "Format", "by the operating system", { options: ["nocloud", "configdrive2"] }),
    {
      ...text("cicustom", "Snippets", "none", { parts: ["user", "network", "vendor", "meta"] }),
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
export function withoutSecrets(told: string): string {
  return told.replace(
    /^(\s*-?\s*"?(?:password|passwd|hashed_passwd|plain_text_passwd|admin_pass)"?\s*:\s*).+$/gm,
    "$1(not shown)",
  );
}
