/** The forms for volumes and devices: which there are, and what each of them is given. */
import type { GuestRow } from "../../hooks/resources";
import type { Device, NewDevice } from "../../logic/devices";
import type { OptionRow } from "../../logic/guestConfig";

export type Dialog =
  | { what: "disk" | "cloudinit" }
  | { what: "cdrom"; key?: string; text?: string }
  | { what: "firmware"; key: "efidisk0" | "tpmstate0" }
  | { what: "add"; device: NewDevice }
  | { what: "edit" | "resize"; key: string; text: string }
  | { what: "move" | "give"; key: string }
  | { what: "attach"; device: Device };

export interface DialogProps {
  guest: GuestRow;
  rows: readonly OptionRow[];
  digest: string | undefined;
  onClose: () => void;
}
