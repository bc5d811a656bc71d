/** What people wrote about a guest, as Markdown. */
import { Alert, Button, Group, Loader, Paper, SegmentedControl, Stack, Text, Textarea, Title } from "@mantine/core";
import { IconPencil } from "@tabler/icons-react";
import { type FormEvent, lazy, Suspense, useState } from "react";
import { ApiError, told } from "../../api/errors";
import { CopyAs } from "../../components/CopyAs";
import { Needing } from "../../components/Denied";
import { useAct } from "../../hooks/actions";
import { type GuestConfig, useConfig } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import type { Action } from "../../logic/actions";
import { nameOf, placeOf } from "../../logic/guestActions";
import { change } from "../../logic/guestConfig";

const Markdown = lazy(async () => ({ default: (await import("../../components/Markdown")).Markdown }));

export function Notes({ guest }: { guest: GuestRow }) {
  const { data, error } = useConfig(guest);
  const [editing, setEditing] = useState(false);
  const text = String(data?.description ?? "").trimEnd();
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  if (data === undefined) {
    return <Loader aria-label="Loading" />;
  }
  return (
    <Stack>
      <Group justify="space-between">
        <Title order={2} size="h3">
          Notes
        </Title>
        {!editing && (
          <Needing wanted={{ method: "PUT", path: `${placeOf(guest)}/config` }}>
            <Button variant="default" leftSection={<IconPencil size={16} />} onClick={() => setEditing(true)}>
              Edit
            </Button>
          </Needing>
        )}
      </Group>
      {editing ? (
        <Editor guest={guest} config={data} onEnd={() => setEditing(false)} />
      ) : text === "" ? (
        <Text>There are none yet.</Text>
      ) : (
        <Shown text={text} />
      )}
    </Stack>
  );
}

function Shown({ text }: { text: string }) {
  return (
    <Suspense fallback={<Loader aria-label="Loading" />}>
      <Markdown text={text} />
    </Suspense>
  );
}

function save(guest: GuestRow, text: string, digest: string | undefined): Action {
  const title = `Save notes of ${nameOf(guest)}`;
  const empty = text.trim() === "";
  return change(guest, { title, digest, ...(empty ? { remove: ["description"] } : { values: { description: text } }) });
}

interface EditorProps {
  guest: GuestRow;
  config: GuestConfig;
  onEnd: () => void;
}

function Editor({ guest, config, onEnd }: EditorProps) {
  const act = useAct();
  // The state that was edited: what another wrote meanwhile is not written over.
  const [before] = useState(config);
  const [text, setText] = useState(String(before.description ?? "").trimEnd());
  const [view, setView] = useState("write");
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const action = save(guest, text, before.digest === undefined ? undefined : String(before.digest));

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setFailure(undefined);
    try {
      await act(action);
      onEnd();
    } catch (error) {
      setFailure(error instanceof ApiError ? (error.errors.description ?? told(error)) : told(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <Stack component="form" onSubmit={submit}>
      <SegmentedControl
        aria-label="View"
        data={[
          { value: "write", label: "Write" },
          { value: "preview", label: "Preview" },
        ]}
        value={view}
        onChange={setView}
        style={{ alignSelf: "flex-start" }}
      />
      {view === "preview" ? (
        <Paper withBorder p="md" mih={200}>
          <Shown text={text} />
        </Paper>
      ) : (
        <Textarea
          label="Notes"
          description="Markdown: # Heading, **bold**, - item, [text](https://address), `code`. HTML is shown as text."
          autosize
          minRows={8}
          maxRows={30}
          maxLength={8192}
          value={text}
          error={failure ?? false}
          onChange={(event) => setText(event.currentTarget.value)}
        />
      )}
      {failure !== undefined && view === "preview" && (
        <Alert color="red" role="alert">
          {failure}
        </Alert>
      )}
      <Group justify="flex-end" gap="xs">
        <CopyAs action={action} />
        <Button variant="default" onClick={onEnd}>
          Cancel
        </Button>
        <Button type="submit" loading={busy}>
          Save
        </Button>
      </Group>
    </Stack>
  );
}
