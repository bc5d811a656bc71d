/** Asks before an action is done, and says what is lost by it. */
import { Accordion, Alert, Button, Group, List, Stack, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { told } from "../api/errors";
import { type Done, useAct } from "../hooks/actions";
import type { Action } from "../logic/actions";
import { CopyTexts } from "./CopyAs";
import { FocusedModal } from "./FocusedModal";

interface Props {
  action: Action;
  opened: boolean;
  onClose: () => void;
  onDone?: ((done: Done) => void) | undefined;
}

export function ConfirmAction({ action, opened, onClose, onDone }: Props) {
  return (
    <FocusedModal opened={opened} onClose={onClose} title={`${action.title}?`} centered>
      <Question action={action} onClose={onClose} onDone={onDone} />
    </FocusedModal>
  );
}

function Question({ action, onClose, onDone }: Omit<Props, "opened">) {
  const act = useAct();
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const ready = action.typed === undefined || typed === action.typed;

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (!ready) {
      return;
    }
    setBusy(true);
    try {
      const done = await act(action);
      onClose();
      onDone?.(done);
    } catch (error) {
      setFailure(told(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <form onSubmit={submit}>
      <Stack>
        <Losses action={action} />
        {action.typed !== undefined && (
          <TextInput
            label={`Type ${action.typed} to go on`}
            autoComplete="off"
            spellCheck={false}
            data-autofocus
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
          />
        )}
        {failure !== undefined && (
          <Alert color="red" role="alert" className="lines">
            {failure}
          </Alert>
        )}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose} {...(action.typed === undefined && { "data-autofocus": true })}>
            Cancel
          </Button>
          <Button type="submit" {...(action.danger && { color: "red" })} disabled={!ready} loading={busy}>
            {action.title}
          </Button>
        </Group>
        <Accordion variant="contained">
          <Accordion.Item value="copy">
            <Accordion.Control>Copy as command or API call</Accordion.Control>
            <Accordion.Panel>
              <CopyTexts action={action} />
            </Accordion.Panel>
          </Accordion.Item>
        </Accordion>
      </Stack>
    </form>
  );
}

function Losses({ action }: { action: Action }) {
  const [only, ...others] = action.loses ?? [];
  if (only === undefined) {
    return null;
  }
  if (others.length === 0) {
    return <Text>{only}</Text>;
  }
  return (
    <List spacing={4}>
      {[only, ...others].map((line) => (
        <List.Item key={line}>{line}</List.Item>
      ))}
    </List>
  );
}
