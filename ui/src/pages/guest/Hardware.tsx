/** A VM's hardware or a CT's resources: what it has, and how to add, change, move and remove it. */
import { Group, Stack, Title } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { ActionMenu } from "../../components/ActionMenu";
import { Asked } from "../../components/Asked";
import { type PendingRow, usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { devices, newDevices } from "../../logic/devices";
import { nameOf, placeOf } from "../../logic/guestActions";
import { waiting } from "../../logic/guestConfig";
import { formValues, hardwareOf, shown } from "../../logic/guestOptions";
import type { Wanted } from "../../logic/rights";
import { DeviceDialog } from "./DeviceDialog";
import { DeviceMenu } from "./DeviceMenu";
import type { Dialog } from "./dialogs";
import { EditOptions } from "./EditOptions";
import { OptionTable } from "./OptionTable";

export function Hardware({ guest }: { guest: GuestRow }) {
  return (
    <Asked query={usePending(guest)}>
      {(rows) => (
        <Stack gap="lg">
          <MemoryAndCpu guest={guest} rows={rows} />
          <Devices guest={guest} rows={rows} />
        </Stack>
      )}
    </Asked>
  );
}

interface Props {
  guest: GuestRow;
  rows: readonly PendingRow[];
}

function keysOf(rows: readonly PendingRow[]): ReadonlySet<string> {
  return new Set(waiting(rows).map((row) => row.key));
}

function MemoryAndCpu({ guest, rows }: Props) {
  const [editing, setEditing] = useState<string>();
  const groups = hardwareOf(guest.type);
  const group = groups.find((one) => one.id === editing);
  return (
    <>
      <OptionTable
        guest={guest}
        label="Memory and CPU"
        rows={groups.map((one) => shown(one, rows))}
        waitingKeys={keysOf(rows)}
        onEdit={setEditing}
      />
      {group !== undefined && (
        <EditOptions
          guest={guest}
          label={group.label}
          fields={group.fields}
          initial={formValues(group.keys, rows)}
          onClose={() => setEditing(undefined)}
        />
      )}
    </>
  );
}

function Devices({ guest, rows }: Props) {
  const [dialog, setDialog] = useState<Dialog>();
  const known = devices(guest.type, rows);
  return (
    <section aria-labelledby="devices">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="devices">
          Volumes and devices
        </Title>
        <AddMenu guest={guest} onOpen={setDialog} />
      </Group>
      <OptionTable
        guest={guest}
        label="Volumes and devices"
        rows={known}
        waitingKeys={keysOf(rows)}
        offered={(row) => {
          const device = known.find((one) => one.id === row.id);
          return device && <DeviceMenu guest={guest} device={device} onOpen={setDialog} />;
        }}
      />
      {dialog !== undefined && (
        <DeviceDialog guest={guest} dialog={dialog} rows={rows} onClose={() => setDialog(undefined)} />
      )}
    </section>
  );
}

function AddMenu({ guest, onOpen }: { guest: GuestRow; onOpen: (dialog: Dialog) => void }) {
  const needs: Wanted = { method: "PUT", path: `${placeOf(guest)}/config` };
  const drives =
    guest.type === "qemu"
      ? [
          { label: "Disk", open: () => onOpen({ what: "disk" }) },
          { label: "CD-ROM drive", open: () => onOpen({ what: "cdrom" }) },
          { label: "Cloud-init drive", open: () => onOpen({ what: "cloudinit" }) },
          { label: "EFI disk", open: () => onOpen({ what: "firmware", key: "efidisk0" }) },
          { label: "TPM state", open: () => onOpen({ what: "firmware", key: "tpmstate0" }) },
        ]
      : [];
  const others = newDevices(guest.type).map((device) => ({
    label: device.label,
    open: () => onOpen({ what: "add", device }),
  }));
  return (
    <ActionMenu
      label={`Add to ${nameOf(guest)}`}
      entries={[...drives, ...others].map((entry) => ({ ...entry, needs }))}
      text="Add"
      icon={<IconPlus size={16} />}
      size="compact-md"
    />
  );
}
