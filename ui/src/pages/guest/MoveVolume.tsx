/** Move a volume to another storage, or give it to another guest of the same kind. */

import { useStoragesFor } from "../../components/properties/VolumeFields";
import { SchemaForm } from "../../components/SchemaForm";
import { type GuestRow, useGuests } from "../../hooks/resources";
import { move } from "../../logic/deviceActions";
import { nameOf } from "../../logic/guestActions";
import type { FieldSpec } from "../../logic/schema";
import { bytes } from "../../logic/units";
import type { DialogProps } from "./dialogs";

function operation(guest: GuestRow) {
  const name = guest.type === "lxc" ? "move_volume" : "move_disk";
  return { method: "POST", path: `/nodes/{node}/${guest.type}/{vmid}/${name}` } as const;
}

export function MoveVolume({ guest, onClose, name }: DialogProps & { name: string }) {
  const storages = useStoragesFor(guest.node, guest.type === "lxc" ? "rootdir" : "images");
  const format: FieldSpec[] =
    guest.type === "qemu" ? [{ name: "format", label: "Format", help: "Empty: the storage's own." }] : [];
  const fields: FieldSpec[] = [
    {
      name: "storage",
      label: "Storage",
      required: true,
      options: storages.map((row) => ({ value: row.storage, label: `${row.storage} (${bytes(row.avail)} free)` })),
    },
    ...format,
    { name: "delete", label: "Delete the old one", help: "Else it stays, as an unused volume." },
    { name: "bwlimit", label: "Limit (KiB/s)" },
  ];
  return (
    <SchemaForm
      operation={operation(guest)}
      fields={fields}
      action={(values) => move(guest, name, values)}
      submit="Move"
      onDone={onClose}
      onCancel={onClose}
    />
  );
}

export function GiveVolume({ guest, onClose, name }: DialogProps & { name: string }) {
  const guests = useGuests().data ?? [];
  const others = guests.filter((row) => row.type === guest.type && row.vmid !== guest.vmid && !row.template);
  const fields: FieldSpec[] = [
    {
      name: "target-vmid",
      label: "Guest",
      required: true,
      help: "It gets the volume under the same name.",
      options: others.map((row) => ({ value: String(row.vmid), label: `${row.vmid} ${nameOf(row)}` })),
    },
  ];
  return (
    <SchemaForm
      operation={operation(guest)}
      fields={fields}
      action={(values) => move(guest, name, values)}
      submit="Give"
      onDone={onClose}
      onCancel={onClose}
    />
  );
}
