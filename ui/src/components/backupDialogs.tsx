/** What is shown and asked of one backup, and the menu that leads there. */
import { Alert, Code, Loader } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { told } from "../api/errors";
import { useBackupConfig } from "../hooks/backups";
import {
  annotate,
  type BackupRow,
  ofGuest,
  protect,
  removeBackup,
  shortName,
  storageOf,
  verify,
} from "../logic/backups";
import { bytes } from "../logic/units";
import type { MenuEntry } from "./ActionMenu";
import { RestoreForm } from "./RestoreForm";
import { SchemaForm } from "./SchemaForm";
import type { Dialog } from "./useDialog";

interface OneProps {
  node: string;
  row: BackupRow;
  onDone: () => void;
}

function BackupNotes({ node, row, onDone }: OneProps) {
  return (
    <SchemaForm
      operation={{ method: "PUT", path: "/nodes/{node}/storage/{storage}/content/{volume}" }}
      fields={[{ name: "notes", lines: 4 }]}
      initial={{ notes: row.notes ?? "" }}
      action={(values) => annotate(node, row.volid, values.notes ?? "")}
      submit="Save"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

function BackupConfig({ node, row }: Omit<OneProps, "onDone">) {
  const { data, error } = useBackupConfig(node, row.volid);
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  return data === undefined ? (
    <Loader aria-label="Loading" />
  ) : (
    <Code block className="wrapped">
      {data}
    </Code>
  );
}

/** The menu of a backup. */
export function useBackupEntries(node: string, { open, close }: Dialog): (row: BackupRow) => readonly MenuEntry[] {
  const navigate = useNavigate();
  return (row) => {
    const name = shortName(row.volid);
    const one = { node, row, onDone: close };
    const whole: MenuEntry[] =
      ofGuest(row.volid) === undefined
        ? []
        : [
            {
              label: "Restore",
              open: () => open({ title: `Restore ${name}`, size: "lg", content: <RestoreForm {...one} /> }),
            },
          ];
    return [
      ...whole,
      {
        label: "Browse files",
        open: () => void navigate({ to: `/backups/files/${encodeURIComponent(row.volid)}` }),
      },
      {
        label: "Show options",
        open: () => open({ title: `Options in ${name}`, size: "lg", content: <BackupConfig node={node} row={row} /> }),
      },
      { label: "Edit notes", open: () => open({ title: `Notes of ${name}`, content: <BackupNotes {...one} /> }) },
      {
        label: row.protected ? "Protect no more" : "Protect",
        action: protect(node, row.volid, !row.protected),
      },
      { label: "Verify", action: verify({ storage: storageOf(row.volid), volume: row.volid }) },
      ...(row.protected ? [] : [{ label: "Remove", action: removeBackup(node, row, bytes(row.size)) }]),
    ];
  };
}
