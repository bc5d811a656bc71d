/** What cloud-init in a guest is told: a VM's options and drive, and texts in full for both kinds. */
import { Alert, Anchor, Group, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { type PendingRow, usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import type { Action } from "../../logic/actions";
import { cloudInitGroups, formTexts, sentTexts } from "../../logic/cloudInit";
import { isCloudInitKey } from "../../logic/devices";
import { nameOf, placeOf } from "../../logic/guestActions";
import { isCloudInitDrive, isDriveKey, waiting } from "../../logic/guestConfig";
import { formValues, shown } from "../../logic/guestOptions";
import { CloudInitTexts } from "./CloudInitTexts";
import { EditOptions } from "./EditOptions";
import { OptionTable } from "./OptionTable";
import { ToldTexts } from "./ToldTexts";

export function CloudInit({ guest }: { guest: GuestRow }) {
  return (
    <Stack gap="lg">
      {guest.type === "qemu" ? (
        <OfMachine guest={guest} />
      ) : (
        <Text size="sm">
          Cloud-init in a CT gets no drive: its network, keys and password are set when it is made. The texts below are
          left in it at its next start.
        </Text>
      )}
      <CloudInitTexts guest={guest} />
      {guest.type === "qemu" && <ToldTexts guest={guest} />}
    </Stack>
  );
}

function OfMachine({ guest }: { guest: GuestRow }) {
  return <Asked query={usePending(guest)}>{(rows) => <OptionsOfMachine guest={guest} rows={rows} />}</Asked>;
}

function OptionsOfMachine({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const [editing, setEditing] = useState<string>();
  const groups = cloudInitGroups(rows.map((row) => row.key));
  const group = groups.find((one) => one.id === editing);
  return (
    <Stack gap="md">
      <Drive guest={guest} rows={rows} />
      <OptionTable
        guest={guest}
        label="Options for cloud-init"
        rows={groups.map((one) => shown(one, rows))}
        waitingKeys={new Set(waiting(rows).map((row) => row.key))}
        onEdit={setEditing}
      />
      {group !== undefined && (
        <EditOptions
          guest={guest}
          label={group.label}
          fields={group.fields}
          initial={formTexts(formValues(group.keys, rows))}
          sent={sentTexts}
          onClose={() => setEditing(undefined)}
        />
      )}
    </Stack>
  );
}

function regenerate(guest: GuestRow): Action {
  return {
    title: `Write the cloud-init drive of ${nameOf(guest)} anew`,
    method: "PUT",
    path: `${placeOf(guest)}/cloudinit`,
    command: `bastide cloudinit ${nameOf(guest)} --regenerate`,
  };
}

function Drive({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const drive = rows.find((row) => isDriveKey(row.key) && isCloudInitDrive(String(row.value ?? row.pending ?? "")));
  const late = waiting(rows).filter((row) => isCloudInitKey(row.key)).length;
  if (drive === undefined) {
    return (
      <Alert color="yellow" role="status" title="It has no cloud-init drive">
        What is set here reaches the guest by a drive.{" "}
        <Anchor component={Link} to={`/guests/${guest.vmid}/hardware`} inherit>
          Add one to its hardware
        </Anchor>
        .
      </Alert>
    );
  }
  return (
    <Group justify="space-between">
      <div>
        <Title order={2} size="h4">
          Options
        </Title>
        <Text size="sm">
          {late === 0
            ? `The drive ${drive.key} is written at each start with what is set here.`
            : `${late === 1 ? "1 option is" : `${late} options are`} not on the drive ${drive.key} yet.`}
        </Text>
      </div>
      <ActionButton action={regenerate(guest)} size="compact-md">
        Write the drive anew
      </ActionButton>
    </Group>
  );
}
