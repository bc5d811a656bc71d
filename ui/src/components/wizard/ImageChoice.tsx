/** The image that a guest is made from: one that is there, or one that this host can build. */
import { Accordion, Alert, Group, Select, Stack, Text } from "@mantine/core";
import type { Done } from "../../hooks/actions";
import { type ImageRow, useBuildable, useImages } from "../../hooks/images";
import { buildImage, imageLabel } from "../../logic/images";
import { ActionButton } from "../ActionButton";

export interface ImageChoiceProps {
  kind: "lxc" | "qemu";
  label: string;
  storage: string;
  value: string;
  onChange: (volid: string) => void;
  error?: string | undefined;
}

export function ImageChoice({ kind, label, storage, value, onChange, error }: ImageChoiceProps) {
  const { data = [], refetch } = useImages();
  const images = data.filter((row) => row.type === kind);

  async function built(done: Done, alias: string): Promise<void> {
    await done.task?.ended;
    const rows = (await refetch()).data ?? [];
    const found = rows.find((row) => row.type === kind && row.alias === alias);
    if (found !== undefined) {
      onChange(found.volid);
    }
  }

  return (
    <Stack>
      {images.length === 0 && (
        <Alert color="yellow" role="status">
          No storage has such an image yet. Build one below, or bring one in on the page of images.
        </Alert>
      )}
      <Select
        label={label}
        required
        searchable
        allowDeselect={false}
        nothingFoundMessage="None has that name"
        data={optionsOf(images, value)}
        value={value === "" ? null : value}
        error={error ?? false}
        onChange={(now) => onChange(now ?? "")}
      />
      <Building kind={kind} storage={storage} there={images} onBuilt={built} />
    </Stack>
  );
}

/** What is chosen stays to be seen, even when the list does not know it. */
function optionsOf(images: readonly ImageRow[], value: string) {
  const options = images.map((row) => ({ value: row.volid, label: imageLabel(row) }));
  const known = value === "" || options.some((one) => one.value === value);
  return known ? options : [{ value, label: value }, ...options];
}

interface BuildingProps {
  kind: "lxc" | "qemu";
  storage: string;
  there: readonly ImageRow[];
  onBuilt: (done: Done, alias: string) => Promise<void>;
}

function Building({ kind, storage, there, onBuilt }: BuildingProps) {
  const buildable = (useBuildable().data ?? []).filter((row) => row.type === kind);
  if (buildable.length === 0) {
    return null;
  }
  return (
    <Accordion variant="contained" defaultValue={there.length === 0 ? "build" : null}>
      <Accordion.Item value="build">
        <Accordion.Control>Build one on this host</Accordion.Control>
        <Accordion.Panel>
          <Text size="sm" mb="sm">
            It is made of this host's own package sources, takes a minute or two, and is chosen when it is there.
          </Text>
          <Group gap="xs">
            {buildable.map((row) => (
              <ActionButton
                key={row.name}
                plain
                action={buildImage(row.name, kind, storage)}
                onDone={(done) => void onBuilt(done, row.name).catch(() => undefined)}
              >
                {row.name}
              </ActionButton>
            ))}
          </Group>
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}
