/** A VM's disk: `scsi0`, `virtio1` ... New ones say where and how large, those that are there only how they are used. */
import { Stack } from "@mantine/core";
import { defaultKeyOf, partsOf, textOf } from "../../logic/propertyString";
import { asField, type FieldSchema, type FieldSpec } from "../../logic/schema";
import { parseNewVolume } from "../../logic/volumes";
import { PropertyFields } from "./PropertyFields";
import { VolumeFields } from "./VolumeFields";

export interface DiskFormProps {
  node: string | undefined;
  /** The option: `scsi0`. */
  name: string;
  schema: FieldSchema | undefined;
  value: string;
  onChange: (value: string) => void;
  error?: string | undefined;
  /** Its size is its image's. */
  unsized?: boolean;
  brief?: boolean;
}

const FORMAT: FieldSpec = {
  name: "format",
  label: "Format",
  help: "The storage's own, when none is chosen",
  options: ["raw", "qcow2", "vmdk"],
};
const USUAL: readonly FieldSpec[] = [
  FORMAT,
  { name: "discard", label: "Discard", help: "on gives freed space back to the storage" },
];
const RARE: readonly FieldSpec[] = [
  { name: "cache", label: "Cache" },
  { name: "aio", label: "Asynchronous I/O" },
  { name: "iothread", label: "I/O thread of its own" },
  { name: "ssd", label: "Shown as an SSD" },
  { name: "ro", label: "Read only" },
  { name: "backup", label: "In backups", on: true },
  { name: "mbps_rd", label: "Read limit, MB/s" },
  { name: "mbps_wr", label: "Write limit, MB/s" },
  { name: "iops_rd", label: "Read limit, operations/s" },
  { name: "iops_wr", label: "Write limit, operations/s" },
  { name: "serial", label: "Serial number" },
];

export function DiskForm({
  node,
  name,
  schema,
  value,
  onChange,
  error,
  unsized = false,
  brief = false,
}: DiskFormProps) {
  const key = defaultKeyOf("qemu", name) ?? "file";
  const parts = partsOf("qemu", name, value);
  const volume = parts[key] ?? "";
  const fresh = volume === "" || parseNewVolume(volume) !== undefined;
  const known = schema?.["x-properties"] ?? {};
  const asked = [...USUAL, ...(brief ? [] : RARE)].filter(
    (spec) => asField(spec).name in known && (fresh || spec !== FORMAT),
  );
  return (
    <Stack gap="sm">
      <VolumeFields
        node={node}
        content="images"
        volume={volume}
        unsized={unsized}
        error={error}
        onChange={(now) => onChange(textOf("qemu", name, { ...parts, [key]: now }))}
      />
      <PropertyFields
        field={{ name, label: `How ${name} is used` }}
        schema={schema}
        parts={asked}
        value={value}
        onChange={onChange}
        columns={2}
      />
    </Stack>
  );
}
