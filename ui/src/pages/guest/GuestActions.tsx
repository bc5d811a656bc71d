/** What can be done with a guest as a whole: one button for what is most likely, and a menu for the rest. */
import { Group } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useNavigate } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { ActionMenu, type MenuEntry } from "../../components/ActionMenu";
import { type GuestStatus, useConfig, useSnapshotNames } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { type ActedOn, makeTemplate, nameOf, placeOf, powerActions, remove } from "../../logic/guestActions";
import { ownVolumes } from "../../logic/guestConfig";
import { CloneGuest } from "./CloneGuest";

export function GuestActions({ guest, status }: { guest: GuestRow; status: GuestStatus | undefined }) {
  const [cloning, { open, close }] = useDisclosure();
  const told: ActedOn = {
    ...guest,
    ...status,
    type: guest.type,
    ...(guest.name !== undefined && { name: guest.name }),
  };
  const { first, others } = powerActions(told);
  const whole = useWhole(told);
  const entries: MenuEntry[] = [
    ...others.map((action) => ({ label: action.title.replace(` ${nameOf(guest)}`, ""), action })),
    { label: "Clone …", open, needs: { method: "POST", path: `${placeOf(guest)}/clone` } },
    ...whole,
  ];
  return (
    <Group gap="xs">
      {first !== undefined && (
        <ActionButton action={first} variant="filled">
          {first.title.replace(` ${nameOf(guest)}`, "")}
        </ActionButton>
      )}
      <ActionMenu label={`More for ${nameOf(guest)}`} entries={entries} text="More" />
      {cloning && <CloneGuest guest={guest} onClose={close} />}
    </Group>
  );
}

/** Making a template and removing, of a guest that is stopped. */
function useWhole(guest: ActedOn): MenuEntry[] {
  const navigate = useNavigate();
  const config = useConfig(guest).data ?? {};
  const snapshots = useSnapshotNames(guest).length;
  if (guest.status === "running") {
    return [];
  }
  const template = guest.template ? [] : [{ label: "Make a template …", action: makeTemplate(guest) }];
  const gone = { label: "Remove …", action: remove(guest, ownVolumes(guest.type, config), snapshots) };
  return [...template, { ...gone, onDone: () => void navigate({ to: "/" }) }];
}
