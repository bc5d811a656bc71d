/** A CT's volume: `rootfs`, `mp0` ... */
import { Stack } from "@mantine/core";
import { partsOf, textOf } from "../../logic/propertyString";
import { asField, type FieldSchema, type FieldSpec } from "../../logic/schema";
import { PropertyFields } from "./PropertyFields";
import { VolumeFields } from "./VolumeFields";

export interface MountPointFormProps {
  node: string | undefined;
  /** The option: `rootfs`, `mp0`. */
  name: string;
  schema: FieldSchema | undefined;
  value: string;
  onChange: (value: string) => void;
  error?: string | undefined;
  brief?: boolean;
}

const PATH: FieldSpec = { name: "mp", label: "Path in the CT", placeholder: "/srv/data" };
const RARE: readonly FieldSpec[] = [
  { name: "backup", label: "In backups" },
  { name: "ro", label: "Read only" },
  { name: "quota", label: "User quotas" },
  { name: "acl", label: "Access control lists" },
  { name: "mountoptions", label: "Mount options", help: "discard;lazytime;noatime;nodev;noexec;nosuid" },
];

export function MountPointForm({ node, name, schema, value, onChange, error, brief = false }: MountPointFormProps) {
  const parts = partsOf("lxc", name, value);
  const known = schema?.["x-properties"] ?? {};
  const asked = [PATH, ...(brief ? [] : RARE)].filter((spec) => asField(spec).name in known);
  return (
    <Stack gap="sm">
      <VolumeFields
        node={node}
        content="rootdir"
        volume={parts.volume ?? ""}
        error={asked.length === 0 ? error : undefined}
        onChange={(volume) => onChange(textOf("lxc", name, { ...parts, volume }))}
      />
      {asked.length > 0 && (
        <PropertyFields
          field={{ name, label: `How ${name} is used` }}
          schema={schema}
          parts={asked}
          value={value}
          onChange={onChange}
          error={error}
          columns={2}
        />
      )}
    </Stack>
  );
}
