/** Which storage an image is kept on. */
import { Select } from "@mantine/core";
import { useDaemon } from "../../hooks/creating";
import { useNodeStorages } from "../../hooks/storage";
import { bytes } from "../../logic/units";

interface Props {
  kind: "lxc" | "qemu";
  value: string;
  onChange: (storage: string) => void;
}

/** The storages that take images of a kind and answer. */
export function useImageStorages(kind: "lxc" | "qemu") {
  const rows = useNodeStorages(useDaemon().data?.node).data ?? [];
  const content = kind === "lxc" ? "vztmpl" : "import";
  return rows.filter((row) => row.active && row.enabled && row.content.split(",").includes(content));
}

export function StorageChoice({ kind, value, onChange }: Props) {
  const rows = useImageStorages(kind);
  return (
    <Select
      label="Storage"
      allowDeselect={false}
      w={280}
      data={rows.map((row) => ({ value: row.storage, label: `${row.storage} (${bytes(row.avail)} free)` }))}
      value={rows.some((row) => row.storage === value) ? value : null}
      onChange={(storage) => onChange(storage ?? value)}
    />
  );
}
