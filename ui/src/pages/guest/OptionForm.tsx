/** A form for one option that has inputs of its own: what is typed stays until the API takes it. */
import { Alert, Button, Group, Loader, Stack } from "@mantine/core";
import { type FormEvent, type ReactNode, useRef, useState } from "react";
import { ApiError, told } from "../../api/errors";
import { CopyAs } from "../../components/CopyAs";
import { focusFault } from "../../components/form/useSchemaForm";
import { useAct } from "../../hooks/actions";
import { useRequestSchema } from "../../hooks/schema";
import type { Action } from "../../logic/actions";
import { type FieldSchema, fieldSchema } from "../../logic/schema";
import { configOperation } from "./EditOptions";

export interface OptionInput {
  readonly schema: FieldSchema | undefined;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error?: string | undefined;
}

interface Props {
  kind: "lxc" | "qemu";
  /** The option: `net0`. */
  name: string;
  initial: string;
  action: (value: string) => Action;
  onClose: () => void;
  /** What is wrong with the value before it is sent. */
  fault?: (value: string) => string | undefined;
  children: (input: OptionInput) => ReactNode;
}

export function OptionForm({ kind, name, initial, action, onClose, fault, children }: Props) {
  const { schema } = useRequestSchema(configOperation(kind));
  const act = useAct();
  const [value, setValue] = useState(initial);
  const [error, setError] = useState<string>();
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  function refuse(thrown: unknown): void {
    const beside = thrown instanceof ApiError ? thrown.errors[name] : undefined;
    setError(beside);
    setFailure(beside === undefined ? told(thrown) : undefined);
  }

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    const wrong = fault?.(value);
    setError(wrong);
    setFailure(undefined);
    if (wrong !== undefined) {
      focusFault(form.current);
      return;
    }
    setBusy(true);
    try {
      await act(action(value));
      onClose();
    } catch (thrown) {
      refuse(thrown);
      focusFault(form.current);
    } finally {
      setBusy(false);
    }
  }

  if (schema === undefined) {
    return <Loader aria-label="Loading" />;
  }
  return (
    <form ref={form} onSubmit={submit} noValidate>
      <Stack>
        {failure !== undefined && (
          <Alert color="red" role="alert" className="lines">
            {failure}
          </Alert>
        )}
        {children({ schema: fieldSchema(schema, name), value, onChange: setValue, error })}
        <Group justify="flex-end" gap="xs">
          <CopyAs action={action(value)} />
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={busy}>
            Save
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
