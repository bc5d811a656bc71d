/** Make a guest of this one. */
import { Loader } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { FocusedModal } from "../../components/FocusedModal";
import { useStoragesFor } from "../../components/properties/VolumeFields";
import { SchemaForm } from "../../components/SchemaForm";
import { useNextId, usePools } from "../../hooks/creating";
import { useSnapshotNames } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { clone } from "../../logic/cloneAction";
import { nameOf } from "../../logic/guestActions";
import type { Choice, FieldSpec } from "../../logic/schema";

interface Props {
  guest: GuestRow;
  onClose: () => void;
  /** The snapshot that is cloned, where one was chosen. */
  snapshot?: string;
}

export function CloneGuest({ guest, onClose, snapshot }: Props) {
  const navigate = useNavigate();
  const nextId = useNextId();
  const fields = useFields(guest);
  return (
    <FocusedModal opened onClose={onClose} title={`Clone ${nameOf(guest)}`} size="lg">
      {nextId.isPending ? (
        <Loader aria-label="Loading" />
      ) : (
        <SchemaForm
          operation={{ method: "POST", path: `/nodes/{node}/${guest.type}/{vmid}/clone` }}
          fields={fields}
          initial={{ newid: nextId.data ?? "", ...(snapshot !== undefined && { snapname: snapshot }) }}
          columns={2}
          submit="Clone"
          action={(values) => clone(guest, values)}
          onDone={({ task }, values) => {
            onClose();
            void task?.ended.then((end) => {
              if (end.exitstatus === "OK") {
                void navigate({ to: `/guests/${values.newid}/summary` });
              }
            });
          }}
          onCancel={onClose}
        />
      )}
    </FocusedModal>
  );
}

function useFields(guest: GuestRow): FieldSpec[] {
  const vm = guest.type === "qemu";
  const storages = useStoragesFor(guest.node, vm ? "images" : "rootdir").map((row): Choice => row.storage);
  const pools = (usePools().data ?? []).map((row) => row.poolid);
  const snapshots = useSnapshotNames(guest);
  return [
    { name: "newid", label: "ID", required: true },
    vm ? { name: "name", label: "Name", required: true } : { name: "hostname", label: "Host name", required: true },
    ...(guest.template
      ? [
          {
            name: "full",
            label: "Full clone",
            help: "A copy of its own; else it holds only what differs from the template.",
          },
        ]
      : []),
    {
      name: "storage",
      label: "Storage",
      options: storages,
      help: "Of a full clone; empty: where the volumes are now.",
    },
    ...(vm ? [{ name: "format", label: "Format" }] : []),
    ...(snapshots.length > 0
      ? [{ name: "snapname", label: "Snapshot", options: snapshots, help: "Empty: the present state." }]
      : []),
    ...(pools.length > 0 ? [{ name: "pool", label: "Pool", options: pools }] : []),
    { name: "description", label: "Notes", lines: 2 },
    { name: "bwlimit", label: "Limit (KiB/s)" },
  ];
}
