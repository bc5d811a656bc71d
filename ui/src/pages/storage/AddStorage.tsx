/** Add a storage: its type, and then what that type needs. */
import { Alert, Button, Code, CopyButton, Group, Modal, Select, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { SchemaForm } from "../../components/SchemaForm";
import { useStorageTypes } from "../../hooks/storage";
import { addStorage, storageFields, TYPE_LABELS } from "../../logic/storages";

interface Props {
  opened: boolean;
  onClose: () => void;
}

type Secrets = Readonly<Record<string, string>>;

export function AddStorage({ opened, onClose }: Props) {
  const [secrets, setSecrets] = useState<Secrets>();
  const close = () => {
    setSecrets(undefined);
    onClose();
  };
  // What is shown this once must not be lost by a click beside the window.
  const held = secrets !== undefined;
  return (
    <Modal
      opened={opened}
      onClose={close}
      title={held ? "Keep this" : "Add storage"}
      size="lg"
      closeOnClickOutside={!held}
      closeOnEscape={!held}
    >
      {held ? (
        <Kept secrets={secrets} onClose={close} />
      ) : (
        <Form onAdded={(shown) => (shown ? setSecrets(shown) : close())} onClose={close} />
      )}
    </Modal>
  );
}

/** What the answer shows this once: the key and the passphrase of a repository. */
function shownOnce(answer: unknown): Secrets | undefined {
  const config = (answer as { config?: Secrets } | null)?.config;
  return config !== undefined && Object.keys(config).length > 0 ? config : undefined;
}

function Form({ onAdded, onClose }: { onAdded: (shown: Secrets | undefined) => void; onClose: () => void }) {
  const types = useStorageTypes().data ?? [];
  const [type, setType] = useState("dir");
  const facts = types.find((one) => one.type === type);
  return (
    <Stack>
      <Select
        label="Type"
        allowDeselect={false}
        data={types.map((one) => ({ value: one.type, label: TYPE_LABELS[one.type] ?? one.type }))}
        value={type}
        onChange={(value) => setType(value ?? "dir")}
      />
      {facts !== undefined && (
        <SchemaForm
          key={type}
          operation={{ method: "POST", path: "/storage" }}
          fields={storageFields(facts, false)}
          initial={{ content: facts.default.join(",") }}
          action={(values) => addStorage(type, values)}
          submit="Add"
          onCancel={onClose}
          onDone={({ answer }) => onAdded(shownOnce(answer))}
        />
      )}
    </Stack>
  );
}

function Kept({ secrets, onClose }: { secrets: Secrets; onClose: () => void }) {
  return (
    <Stack>
      <Alert color="yellow" role="alert">
        This is shown once. Without its key and its passphrase nobody can read what is backed up on the storage: keep
        both where this host is not, on paper or in a password manager.
      </Alert>
      {Object.entries(secrets).map(([name, value]) => (
        <div key={name}>
          <Group justify="space-between" mb={4}>
            <Text fw={600}>{name}</Text>
            <CopyButton value={value}>
              {({ copied, copy }) => (
                <Button variant="default" size="compact-sm" onClick={copy} aria-label={`Copy ${name}`}>
                  <span role="status">{copied ? "Copied" : "Copy"}</span>
                </Button>
              )}
            </CopyButton>
          </Group>
          <Code block className="wrapped">
            {value}
          </Code>
        </div>
      ))}
      <Group justify="flex-end">
        <Button onClick={onClose}>I have kept it</Button>
      </Group>
    </Stack>
  );
}
