/** Add a storage: its type, and then what that type needs. */
import { Alert, Button, Group, Modal, Select, Stack } from "@mantine/core";
import { useState } from "react";
import { Copied } from "../../components/CopyAs";
import { SchemaForm } from "../../components/SchemaForm";
import { useStorageTypes } from "../../hooks/storage";
import type { Values } from "../../logic/schema";
import { addStorage, scanOf, storageFields, TYPE_LABELS, withOptions } from "../../logic/storages";
import { Scan } from "./Scan";

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
  const [values, setValues] = useState<Values>({});
  const [found, setFound] = useState<readonly string[]>([]);
  const facts = types.find((one) => one.type === type);
  const plan = scanOf(type);
  const fields = facts === undefined ? [] : storageFields(facts, false);
  function choose(next: string | null): void {
    setType(next ?? "dir");
    setValues({});
    setFound([]);
  }
  return (
    <Stack>
      <Select
        label="Type"
        allowDeselect={false}
        data={types.map(({ type: value, lacks }) => ({
          value,
          label: `${TYPE_LABELS[value] ?? value}${lacks === undefined ? "" : `: not installed on the host: ${lacks}`}`,
          disabled: lacks !== undefined,
        }))}
        value={type}
        onChange={choose}
      />
      {plan !== undefined && <Scan key={type} plan={plan} values={values} onFound={setFound} />}
      {facts !== undefined && (
        <SchemaForm
          key={type}
          operation={{ method: "POST", path: "/storage" }}
          fields={plan !== undefined && found.length > 0 ? withOptions(fields, plan.field, found) : fields}
          initial={{ content: facts.default.join(",") }}
          action={(typed) => addStorage(type, typed)}
          submit="Add"
          onCancel={onClose}
          onValues={setValues}
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
        <Copied key={name} label={name} text={value} />
      ))}
      <Group justify="flex-end">
        <Button onClick={onClose}>I have kept it</Button>
      </Group>
    </Stack>
  );
}
