/** Give a disk or volume another size. */
import { Stack, Text } from "@mantine/core";
import { SchemaForm } from "../../components/SchemaForm";
import { resize } from "../../logic/deviceActions";
import { partsOf } from "../../logic/propertyString";
import type { DialogProps } from "./dialogs";

export function ResizeVolume({ guest, digest, onClose, name, text }: DialogProps & { name: string; text: string }) {
  const present = partsOf(guest.type, name, text).size;
  const shrinks =
    guest.type === "lxc"
      ? "It grows while the CT runs. It gets smaller while the CT is stopped, when what is on it fits."
      : "It grows, also while the VM runs; the file system on it is grown in the guest. It cannot get smaller.";
  return (
    <Stack>
      <Text size="sm">
        {present === undefined ? "Its size is not known." : `It has ${present} now.`} {shrinks}
      </Text>
      <SchemaForm
        operation={{ method: "PUT", path: `/nodes/{node}/${guest.type}/{vmid}/resize` }}
        fields={[
          { name: "size", label: "Size", help: "20G, or +5G for so much more", placeholder: "+5G", required: true },
        ]}
        action={({ size = "" }) => resize(guest, name, size, digest)}
        submit="Resize"
        onDone={onClose}
        onCancel={onClose}
      />
    </Stack>
  );
}
