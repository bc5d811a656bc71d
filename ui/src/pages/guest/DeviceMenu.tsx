/** What can be done with one volume or device. */
import { ActionMenu, type MenuEntry } from "../../components/ActionMenu";
import type { GuestRow } from "../../hooks/resources";
import { detach, removeDevice } from "../../logic/deviceActions";
import type { Device, DeviceSort } from "../../logic/devices";
import { placeOf } from "../../logic/guestActions";
import type { Wanted } from "../../logic/rights";
import type { Dialog } from "./dialogs";

interface Props {
  guest: GuestRow;
  device: Device;
  onOpen: (dialog: Dialog) => void;
}

type Offer = "edit" | "medium" | "resize" | "move" | "give" | "attach" | "detach" | "remove";

const OFFERS: Readonly<Record<DeviceSort, readonly Offer[]>> = {
  bind: ["edit", "remove"],
  cdrom: ["medium", "remove"],
  cloudinit: ["remove"],
  disk: ["edit", "resize", "move", "give", "detach"],
  firmware: ["move", "detach"],
  mount: ["edit", "resize", "move", "give", "detach"],
  net: ["edit", "remove"],
  other: ["edit", "remove"],
  root: ["edit", "resize", "move"],
  unused: ["attach", "move", "give", "remove"],
};

export function DeviceMenu({ guest, device, onOpen }: Props) {
  const { key, text } = device;
  const place = placeOf(guest);
  const config: Wanted = { method: "PUT", path: `${place}/config` };
  const move: Wanted = { method: "POST", path: `${place}/${guest.type === "qemu" ? "move_disk" : "move_volume"}` };
  const entries: Readonly<Record<Offer, MenuEntry>> = {
    edit: { label: "Edit …", open: () => onOpen({ what: "edit", key, text }), needs: config },
    medium: { label: "Change the medium …", open: () => onOpen({ what: "cdrom", key, text }), needs: config },
    resize: {
      label: "Resize …",
      open: () => onOpen({ what: "resize", key, text }),
      needs: { method: "PUT", path: `${place}/resize` },
    },
    move: { label: "Move to another storage …", open: () => onOpen({ what: "move", key }), needs: move },
    give: { label: "Give to another guest …", open: () => onOpen({ what: "give", key }), needs: move },
    attach: { label: "Attach …", open: () => onOpen({ what: "attach", device }), needs: config },
    detach: { label: "Detach …", action: detach(guest, device) },
    remove: { label: "Remove …", action: removeDevice(guest, device) },
  };
  // A template's volumes may be the ground of clones: the API refuses to touch them.
  const offers = OFFERS[device.sort].filter((offer) => !guest.template || offer === "edit" || device.sort === "net");
  return offers.length === 0 ? null : (
    <ActionMenu label={`Actions for ${device.label}`} entries={offers.map((offer) => entries[offer])} />
  );
}
