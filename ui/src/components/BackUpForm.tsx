/** Backing up now: which guests, where to, and how. */
import { Loader } from "@mantine/core";
import { useBackupDefaults, useBackupStorages } from "../hooks/backups";
import { useGuests } from "../hooks/resources";
import { backUp } from "../logic/backups";
import { nameOf } from "../logic/guestActions";
import { RULES } from "../logic/pruning";
import { type FieldGroup, type FieldSpec, given, type Values } from "../logic/schema";
import { SchemaForm } from "./SchemaForm";

interface Props {
  node: string;
  /** The one that is saved; without it, it is asked. */
  guest?: { readonly vmid: number; readonly name?: string };
  onDone: () => void;
}

const COMPRESSIONS = [
  { value: "zstd", label: "Zstandard: fast and small" },
  { value: "gzip", label: "gzip" },
  { value: "lzo", label: "LZO" },
  { value: "0", label: "none" },
];

const MODES = [
  { value: "snapshot", label: "Snapshot: it goes on" },
  { value: "suspend", label: "Suspend: it waits meanwhile" },
  { value: "stop", label: "Stop: it is shut down and started again" },
];

/** What backups and jobs that make them ask alike. */
export function backupFields(storages: readonly string[]): (FieldSpec | FieldGroup)[] {
  return [
    { name: "storage", options: storages, required: true },
    { name: "mode", options: MODES },
    { name: "compress", label: "Compression", options: COMPRESSIONS, help: "A Borg storage has its own." },
    {
      name: "notes-template",
      label: "Notes",
      help: "{{guestname}}, {{vmid}} and {{node}} are filled in.",
      placeholder: "{{guestname}}",
    },
  ];
}

/** Which are removed then, by rules of this call alone. */
export const KEEP: FieldGroup = {
  title: "Remove older ones afterwards",
  folded: true,
  fields: [
    {
      name: "prune-backups",
      label: "Keep",
      help: "Without, the storage's own rules hold.",
      parts: RULES.map((name) => ({ name, label: `${name.slice(5, 6).toUpperCase()}${name.slice(6)}` })),
    },
  ],
};

export const HOW: FieldGroup = {
  title: "More",
  folded: true,
  fields: [
    { name: "bwlimit", label: "Bandwidth limit", help: "KiB a second; 0 is none." },
    { name: "zstd", label: "Threads of Zstandard", help: "0: half of the processors." },
    { name: "stopwait", label: "Wait for a shutdown", help: "Minutes, in mode stop." },
  ],
};

export function BackUpForm({ node, guest, onDone }: Props) {
  const storages = useBackupStorages(node);
  const defaults = useBackupDefaults(node);
  const guests = useGuests().data ?? [];
  if (storages === undefined || defaults.isPending) {
    return <Loader aria-label="Loading" />;
  }
  const options = guests.map((row) => ({ value: String(row.vmid), label: `${nameOf(row)} (${row.vmid})` }));
  const who: FieldSpec = { name: "vmid", label: "Guests", options, many: true, help: "None named: all of them." };
  const preferred = defaults.data?.storage;
  const storage = preferred !== undefined && storages.includes(preferred) ? preferred : (storages[0] ?? "");
  return (
    <SchemaForm
      operation={{ method: "POST", path: "/nodes/{node}/vzdump" }}
      fields={[
        ...(guest === undefined ? [who] : []),
        ...backupFields(storages),
        { name: "protected", label: "Protected", help: "It cannot be removed, nor pruned." },
        KEEP,
        HOW,
      ]}
      initial={{ storage, compress: "zstd", mode: "snapshot" }}
      action={(values) => action(node, guest, values)}
      submit="Back up"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

function action(node: string, guest: Props["guest"], values: Values) {
  const parameters = given(values);
  if (guest !== undefined) {
    return backUp(node, { ...parameters, vmid: guest.vmid }, nameOf(guest));
  }
  if (parameters.vmid === undefined) {
    return backUp(node, { ...parameters, all: true }, "all guests");
  }
  return backUp(node, parameters, `guests ${String(parameters.vmid).split(",").join(", ")}`);
}
