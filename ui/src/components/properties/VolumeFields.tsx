/** Where a new volume comes to be and how large it is: `STORAGE:GiB`. A volume that is there is only named. */
import { Group, NumberInput, Select, Text } from "@mantine/core";
import { useEffect } from "react";
import { useNodeStorages } from "../../hooks/storage";
import { bytes } from "../../logic/units";
import { newVolume, parseNewVolume } from "../../logic/volumes";

export interface VolumeFieldsProps {
  node: string | undefined;
  content: "images" | "rootdir";
  /** `local:8`, or a volume's id. */
  volume: string;
  onChange: (volume: string) => void;
  error?: string | undefined;
  /** The size is another's to say, an image's for example. */
  unsized?: boolean;
}

/** The storages of a node that take a content and answer. */
export function useStoragesFor(node: string | undefined, content: string) {
  const rows = useNodeStorages(node).data ?? [];
  return rows.filter((row) => row.active && row.enabled && row.content.split(",").includes(content));
}

export function VolumeFields({ node, content, volume, onChange, error, unsized = false }: VolumeFieldsProps) {
  const storages = useStoragesFor(node, content);
  const asked = parseNewVolume(volume);
  const only = storages.length === 1 ? storages[0]?.storage : undefined;
  const chosen = asked?.storage !== "" ? undefined : only;
  // biome-ignore lint/correctness/useExhaustiveDependencies: chosen once, when it is known that there is no other
  useEffect(() => {
    if (chosen !== undefined) {
      onChange(newVolume(chosen, asked?.size ?? ""));
    }
  }, [chosen]);
  if (asked === undefined && volume !== "") {
    return (
      <div>
        <Text size="sm" fw={500}>
          Volume
        </Text>
        <Text size="sm" className="wrapped">
          {volume}
        </Text>
      </div>
    );
  }
  const { storage, size } = asked ?? { storage: "", size: "" };
  return (
    <Group grow align="flex-start" gap="md">
      <Select
        label="Storage"
        required
        allowDeselect={false}
        data={storages.map((row) => ({ value: row.storage, label: `${row.storage} (${bytes(row.avail)} free)` }))}
        value={storage === "" ? null : storage}
        error={error ?? false}
        onChange={(now) => onChange(newVolume(now ?? "", size))}
      />
      {!unsized && (
        <NumberInput
          label="Size in GiB"
          required
          hideControls
          min={0.001}
          clampBehavior="none"
          value={size}
          onChange={(now) => onChange(newVolume(storage, String(now)))}
        />
      )}
    </Group>
  );
}
