/** Copy a volume, on its storage or to another. */
import { Modal } from "@mantine/core";
import { SchemaForm } from "../../components/SchemaForm";
import { copyVolume } from "../../logic/storages";

export function CopyVolume({ node, volid, onClose }: { node: string; volid: string; onClose: () => void }) {
  return (
    <Modal opened onClose={onClose} title={`Copy ${volid}`} size="lg">
      <SchemaForm
        operation={{ method: "POST", path: "/nodes/{node}/storage/{storage}/content/{volume}" }}
        fields={[{ name: "target", label: "New name", help: "NAME on the same storage, or STORAGE:NAME" }]}
        initial={{ target: volid }}
        action={(values) => copyVolume(node, volid, values.target ?? "")}
        submit="Copy"
        onCancel={onClose}
        onDone={onClose}
      />
    </Modal>
  );
}
