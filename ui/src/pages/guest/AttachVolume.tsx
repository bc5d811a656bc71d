/** Put an unused volume to use again: as a disk of a VM, or at a path in a CT. */
import { TextInput } from "@mantine/core";
import { attach } from "../../logic/deviceActions";
import type { Device } from "../../logic/devices";
import { freeIndex } from "../../logic/guestConfig";
import type { DialogProps } from "./dialogs";
import { BusSelect, freeOn } from "./NewDisk";
import { OptionForm } from "./OptionForm";

export function AttachVolume({ guest, rows, onClose, device }: DialogProps & { device: Device }) {
  const keys = rows.map((row) => row.key);
  if (guest.type === "qemu") {
    return (
      <OptionForm
        kind="qemu"
        name={device.key}
        initial="scsi"
        action={(bus) => attach(guest, device, freeOn(bus, keys), {})}
        onClose={onClose}
      >
        {({ value, onChange }) => <BusSelect value={value} onChange={onChange} />}
      </OptionForm>
    );
  }
  const key = `mp${freeIndex(keys, "mp", 256) ?? 0}`;
  return (
    <OptionForm
      kind="lxc"
      name={key}
      initial=""
      action={(mp) => attach(guest, device, key, { mp })}
      fault={(mp) => (mp.startsWith("/") ? undefined : "is a path in the CT, such as /srv/data")}
      onClose={onClose}
    >
      {({ value, onChange, error }) => (
        <TextInput
          label="Path in the CT"
          placeholder="/srv/data"
          required
          value={value}
          error={error ?? false}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </OptionForm>
  );
}
