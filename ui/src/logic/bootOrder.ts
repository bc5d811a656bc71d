/** What a VM boots from: `order=scsi0;ide2;net0`. */
import { isCloudInitDrive, isDriveKey, type OptionRow, wanted } from "./guestConfig";
import { partsOf } from "./propertyString";

export interface BootEntry {
  readonly key: string;
  readonly text: string;
  readonly on: boolean;
}

/** Every disk, CD-ROM drive and network card: those in the order first, as they stand in it. */
export function bootEntries(rows: readonly OptionRow[]): BootEntry[] {
  const texts = new Map(rows.map((row) => [row.key, wanted(row)]));
  const order = (partsOf("qemu", "boot", texts.get("boot") ?? "").order ?? "").split(";").filter((key) => key !== "");
  const bootable = [...texts].flatMap(([key, text]): string[] => {
    const fits = isDriveKey(key) || /^(net|hostpci|usb)\d+$/.test(key);
    return text !== undefined && fits && !isCloudInitDrive(text) ? [key] : [];
  });
  const rest = bootable.filter((key) => !order.includes(key)).sort();
  const entry = (key: string, on: boolean): BootEntry => ({ key, text: texts.get(key) ?? "", on });
  return [
    ...order.filter((key) => bootable.includes(key)).map((key) => entry(key, true)),
    ...rest.map((key) => entry(key, false)),
  ];
}

export function bootText(entries: readonly BootEntry[]): string {
  return `order=${entries
    .filter((entry) => entry.on)
    .map((entry) => entry.key)
    .join(";")}`;
}

export function toggled(entries: readonly BootEntry[], key: string): BootEntry[] {
  return entries.map((entry) => (entry.key === key ? { ...entry, on: !entry.on } : entry));
}

/** The entries with one a place up (-1) or down (1). */
export function moved(entries: readonly BootEntry[], index: number, by: -1 | 1): BootEntry[] {
  const found = [...entries];
  const [entry] = found.splice(index, 1);
  if (entry !== undefined) {
    found.splice(index + by, 0, entry);
  }
  return found;
}
