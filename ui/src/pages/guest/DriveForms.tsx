/** CD-ROM drives and their media, the cloud-init drive, UEFI's variables and the TPM's state. */
import { Select, Stack, Switch } from "@mantine/core";
import { useEffect, useState } from "react";
import { useStoragesFor } from "../../components/properties/VolumeFields";
import { useIsos } from "../../hooks/storage";
import { setDevice, setMedium } from "../../logic/deviceActions";
import { wanted } from "../../logic/guestConfig";
import { partsOf } from "../../logic/propertyString";
import { bytes } from "../../logic/units";
import type { DialogProps } from "./dialogs";
import { freeOn } from "./NewDisk";
import { OptionForm } from "./OptionForm";

export function CdromForm({
  guest,
  rows,
  digest,
  onClose,
  name,
  text,
}: DialogProps & { name?: string | undefined; text: string }) {
  const isos = useIsos(guest.node).data ?? [];
  const keys = rows.map((row) => row.key);
  const key = name ?? ["ide2", "ide0", "ide1", "ide3"].find((one) => !keys.includes(one)) ?? freeOn("sata", keys);
  const media = isos.map((row) => ({ value: row.volid, label: `${row.volid} (${bytes(row.size)})` }));
  return (
    <OptionForm
      kind="qemu"
      name={key}
      initial={partsOf("qemu", key, text).file ?? "none"}
      action={(volume) => setMedium(guest, key, text, volume, digest)}
      onClose={onClose}
    >
      {(input) => (
        <Select
          label="Medium"
          searchable
          allowDeselect={false}
          data={[{ value: "none", label: "no medium" }, ...media]}
          value={input.value}
          error={input.error ?? false}
          onChange={(now) => input.onChange(now ?? "none")}
        />
      )}
    </OptionForm>
  );
}

function StorageSelect({
  node,
  value,
  error,
  onChange,
}: {
  node: string;
  value: string;
  error?: string | undefined;
  onChange: (storage: string) => void;
}) {
  const storages = useStoragesFor(node, "images");
  const only = storages.length === 1 ? storages[0]?.storage : undefined;
  const chosen = value === "" ? only : undefined;
  // biome-ignore lint/correctness/useExhaustiveDependencies: chosen once, when it is known that there is no other
  useEffect(() => {
    if (chosen !== undefined) {
      onChange(chosen);
    }
  }, [chosen]);
  return (
    <Select
      label="Storage"
      required
      allowDeselect={false}
      data={storages.map((row) => ({ value: row.storage, label: `${row.storage} (${bytes(row.avail)} free)` }))}
      value={value === "" ? null : value}
      error={error ?? false}
      onChange={(now) => onChange(now ?? "")}
    />
  );
}

const needed = (storage: string) => (storage === "" ? "no storage is chosen" : undefined);

export function CloudInitDriveForm({ guest, rows, digest, onClose }: DialogProps) {
  const keys = rows.map((row) => row.key);
  const key = ["ide2", "ide0", "ide1", "ide3"].find((one) => !keys.includes(one)) ?? freeOn("scsi", keys);
  return (
    <OptionForm
      kind="qemu"
      name={key}
      initial=""
      action={(storage) => setDevice(guest, key, `${storage}:cloudinit`, digest)}
      fault={needed}
      onClose={onClose}
    >
      {({ value, onChange, error }) => (
        <StorageSelect node={guest.node} value={value} error={error} onChange={onChange} />
      )}
    </OptionForm>
  );
}

export function FirmwareForm({ guest, rows, digest, onClose, name }: DialogProps & { name: "efidisk0" | "tpmstate0" }) {
  // The usual firmware knows Secure Boot on the machine q35 alone.
  const machine = rows.map((row) => (row.key === "machine" ? wanted(row) : undefined)).find((one) => one !== undefined);
  const [keys, setKeys] = useState(machine?.includes("q35") ?? false);
  const more = name === "efidisk0" ? `efitype=4m,pre-enrolled-keys=${Number(keys)}` : "version=v2.0";
  return (
    <OptionForm
      kind="qemu"
      name={name}
      initial=""
      action={(storage) => setDevice(guest, name, `${storage}:1,${more}`, digest)}
      fault={needed}
      onClose={onClose}
    >
      {({ value, onChange, error }) => (
        <Stack gap="sm">
          <StorageSelect node={guest.node} value={value} error={error} onChange={onChange} />
          {name === "efidisk0" && (
            <Switch
              label="Secure Boot"
              description="With the usual keys; else the variables are empty. Needs the machine q35."
              checked={keys}
              onChange={(event) => setKeys(event.currentTarget.checked)}
            />
          )}
        </Stack>
      )}
    </OptionForm>
  );
}
