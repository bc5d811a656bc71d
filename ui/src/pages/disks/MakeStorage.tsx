/** Make a folder, a volume group or a pool of disks that nothing is on. */
import { Select, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { SchemaForm } from "../../components/SchemaForm";
import { MADE_LABELS, type MadeKind, madeFields, make } from "../../logic/disks";

const KINDS = Object.entries(MADE_LABELS).map(([value, label]) => ({ value, label }));

interface Props {
  node: string;
  free: readonly string[];
  onClose: () => void;
}

export function MakeStorage({ node, free, onClose }: Props) {
  const [kind, setKind] = useState<MadeKind>("directory");
  if (free.length === 0) {
    return (
      <Text>There is no disk that nothing is on. A disk has to be wiped before something else is made of it.</Text>
    );
  }
  return (
    <Stack>
      <Select
        label="What to make"
        allowDeselect={false}
        data={KINDS}
        value={kind}
        onChange={(value) => setKind((value ?? "directory") as MadeKind)}
      />
      <SchemaForm
        key={kind}
        operation={{ method: "POST", path: `/nodes/{node}/disks/${kind}` }}
        fields={madeFields(kind, free)}
        initial={{ add_storage: "1" }}
        action={(values) => make(node, kind, values)}
        submit="Make it"
        onCancel={onClose}
        onDone={onClose}
      >
        <Text size="sm">Only disks that nothing is on can be chosen; what is on the chosen ones is lost.</Text>
      </SchemaForm>
    </Stack>
  );
}
