/** What can be done with a guest's volumes and devices. */
import { type Action, shellCommand } from "./actions";
import type { Device } from "./devices";
import { type ActedOn, nameOf, placeOf } from "./guestActions";
import { change, volumeOf } from "./guestConfig";
import { partsOf, textOf } from "./propertyString";

/** Take a volume out of use; it stays as `unused[n]`. */
export function detach(guest: ActedOn, device: Device): Action {
  const volume = volumeOf(guest.type, device.key, device.text);
  const stays = volume === undefined ? "Nothing is deleted." : `Volume ${volume} stays, as an unused one.`;
  return change(guest, { title: `Detach ${device.key} of ${nameOf(guest)}`, remove: [device.key], loses: [stays] });
}

/** Remove a device, or an unused volume with all that is on it. */
export function removeDevice(guest: ActedOn, device: Device): Action {
  const volume = device.sort === "unused" ? volumeOf(guest.type, device.key, device.text) : undefined;
  const loses =
    volume === undefined
      ? `${device.label} goes: ${device.now}`
      : `Volume ${volume} is deleted with all that is on it.`;
  return change(guest, { title: `Remove ${device.key} of ${nameOf(guest)}`, remove: [device.key], loses: [loses] });
}

/** Give a disk or volume another size: `20G`, or `+5G` for so much more. */
export function resize(guest: ActedOn, key: string, size: string, digest?: string): Action {
  return {
    title: `Resize ${key} of ${nameOf(guest)}`,
    method: "PUT",
    path: `${placeOf(guest)}/resize`,
    parameters: { disk: key, size, digest },
    command: shellCommand("bastide", "resize", nameOf(guest), key, size),
  };
}

export interface MoveWish {
  readonly storage?: string | undefined;
  readonly format?: string | undefined;
  readonly delete?: string | undefined;
  readonly "target-vmid"?: string | undefined;
  readonly bwlimit?: string | undefined;
}

/** Move a volume to another storage, or give it to another guest of the same kind. */
export function move(guest: ActedOn, key: string, wish: MoveWish): Action {
  const vm = guest.type === "qemu";
  const { storage, format, delete: gone, "target-vmid": target, bwlimit } = wish;
  const words = [
    ...(storage ? [storage] : []),
    ...(target ? ["--to", target] : []),
    ...(format ? ["--format", format] : []),
    ...(gone === "1" ? ["--delete"] : []),
  ];
  return {
    title: target ? `Give ${key} of ${nameOf(guest)} to ${target}` : `Move ${key} of ${nameOf(guest)}`,
    method: "POST",
    path: `${placeOf(guest)}/${vm ? "move_disk" : "move_volume"}`,
    parameters: {
      [vm ? "disk" : "volume"]: key,
      storage: storage || undefined,
      format: format || undefined,
      delete: gone === "1" ? true : undefined,
      "target-vmid": target || undefined,
      [vm ? "target-disk" : "target-volume"]: target ? key : undefined,
      bwlimit: bwlimit || undefined,
    },
    command: bwlimit ? undefined : shellCommand("bastide", "move", nameOf(guest), key, ...words),
  };
}

/** Set one option that is a device, new or there already. */
export function setDevice(guest: ActedOn, key: string, text: string, digest?: string): Action {
  const fresh = /(^|=)[\w.-]+:[\d.]+(,|$)/.test(text);
  return change(guest, { title: `Set ${key} of ${nameOf(guest)}`, values: { [key]: text }, digest, slow: fresh });
}

/** Put a medium into a CD-ROM drive, or take it out. */
export function setMedium(guest: ActedOn, key: string, text: string, volume: string, digest?: string): Action {
  const parts = { ...partsOf("qemu", key, text), file: volume, media: "cdrom", size: undefined };
  return setDevice(guest, key, textOf("qemu", key, parts), digest);
}

/** Put an unused volume to use again. */
export function attach(guest: ActedOn, unused: Device, key: string, more: Readonly<Record<string, string>>): Action {
  const volume = volumeOf(guest.type, unused.key, unused.text) ?? unused.text;
  const parts = guest.type === "lxc" ? { volume, ...more } : { file: volume, ...more };
  const values = { [key]: textOf(guest.type, key, parts) };
  return change(guest, { title: `Attach ${unused.key} of ${nameOf(guest)} as ${key}`, values });
}
