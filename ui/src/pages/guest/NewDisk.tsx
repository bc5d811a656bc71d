/** A new disk of a VM: on which bus, where, how large, how used. */
import { Select, Stack } from "@mantine/core";
import { useState } from "react";
import { DiskForm } from "../../components/properties/DiskForm";
import { setDevice } from "../../logic/deviceActions";
import { freeIndex, LIMITS } from "../../logic/guestConfig";
import { newVolumeFault } from "../../logic/volumes";
import type { DialogProps } from "./dialogs";
import { OptionForm } from "./OptionForm";

const BUSES = [
  { value: "scsi", label: "SCSI" },
  { value: "virtio", label: "VirtIO block" },
  { value: "sata", label: "SATA" },
  { value: "ide", label: "IDE" },
];

/** The first free place on a bus. */
export function freeOn(bus: string, keys: Iterable<string>): string {
  return `${bus}${freeIndex(keys, bus, LIMITS[bus] ?? 0) ?? 0}`;
}

export function BusSelect({ value, onChange }: { value: string; onChange: (bus: string) => void }) {
  return (
    <Select
      label="Bus"
      description="SCSI is the usual one; IDE and SATA need no drivers in the guest."
      data={BUSES}
      allowDeselect={false}
      value={value}
      onChange={(now) => onChange(now ?? "scsi")}
    />
  );
}

export function NewDisk({ guest, rows, digest, onClose }: DialogProps) {
  const [bus, setBus] = useState("scsi");
  const name = freeOn(
    bus,
    rows.map((row) => row.key),
  );
  return (
    <OptionForm
      kind="qemu"
      name={name}
      initial=":32"
      action={(value) => setDevice(guest, name, value, digest)}
      fault={(value) => newVolumeFault(value.split(",")[0] ?? "")}
      onClose={onClose}
    >
      {(input) => (
        <Stack gap="sm">
          <BusSelect value={bus} onChange={setBus} />
          <DiskForm node={guest.node} name={name} {...input} />
        </Stack>
      )}
    </OptionForm>
  );
}
