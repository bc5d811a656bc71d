/** Images that this host can build of its own package sources. */
import { Group, SegmentedControl, Stack, Switch, Table, Text } from "@mantine/core";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useImageStorage } from "../../components/wizard/useHost";
import { type ImageRow, useBuildable, useImages } from "../../hooks/images";
import { buildImage, type ImageKind, madeAt } from "../../logic/images";
import { StorageChoice } from "./StorageChoice";

export function BuildImages() {
  const [kind, setKind] = useState<ImageKind>("lxc");
  const [chosen, setChosen] = useState("");
  const [force, setForce] = useState(false);
  const usual = useImageStorage(kind);
  const storage = chosen === "" ? usual : chosen;
  const images = useImages().data ?? [];
  return (
    <Stack>
      <Text>An image is built of this host's own package sources, and needs no other place in the Internet.</Text>
      <Group align="flex-end">
        <SegmentedControl
          aria-label="For"
          data={[
            { value: "lxc", label: "For CTs" },
            { value: "qemu", label: "For VMs" },
          ]}
          value={kind}
          onChange={(value) => setKind(value === "qemu" ? "qemu" : "lxc")}
        />
        <StorageChoice kind={kind} value={storage} onChange={setChosen} />
        <Switch
          label="Even when there is one of the last days"
          checked={force}
          onChange={(event) => setForce(event.currentTarget.checked)}
        />
      </Group>
      <Asked query={useBuildable()}>
        {(rows) => (
          <WideTable label="Images that can be built" head={["Image", "Newest one here", "Build"]}>
            {rows
              .filter((row) => row.type === kind)
              .map(({ name }) => (
                <Table.Tr key={name}>
                  <Table.Td>{name}</Table.Td>
                  <Table.Td className="figures">{newest(images, kind, name)}</Table.Td>
                  <Table.Td>
                    <ActionButton action={buildImage(name, kind, storage, force)} size="compact-sm">
                      Build
                    </ActionButton>
                  </Table.Td>
                </Table.Tr>
              ))}
          </WideTable>
        )}
      </Asked>
    </Stack>
  );
}

function newest(images: readonly ImageRow[], kind: ImageKind, alias: string): string {
  const found = images.find((row) => row.type === kind && row.alias === alias);
  return found === undefined ? "none" : madeAt(found);
}
