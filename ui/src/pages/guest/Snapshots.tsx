/** A guest's snapshots as a tree, and what can be done with them. */
import { Alert, Button, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { IconCamera } from "@tabler/icons-react";
import { told } from "../../api/errors";
import type { MenuEntry } from "../../components/ActionMenu";
import { Needing } from "../../components/Denied";
import { SnapshotTable } from "../../components/SnapshotTable";
import { type Dialog, useDialog } from "../../components/useDialog";
import type { GuestRow } from "../../hooks/resources";
import { useCanSnapshot, useSnapshots } from "../../hooks/snapshots";
import { nameOf, placeOf } from "../../logic/guestActions";
import { forget, rollBack, type SnapshotRow, treeOf } from "../../logic/snapshots";
import { CloneSnapshot, DescribeSnapshot, SnapshotConfig, TakeSnapshot } from "./SnapshotDialogs";

export function Snapshots({ guest }: { guest: GuestRow }) {
  const { data, error } = useSnapshots(guest);
  const possible = useCanSnapshot(guest);
  const { open, close, element } = useDialog();
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  const taken = (data?.length ?? 0) > 1;
  return (
    <Stack>
      <Group justify="space-between">
        <Title order={2} size="h3">
          Snapshots
        </Title>
        <Needing wanted={{ method: "POST", path: `${placeOf(guest)}/snapshot` }}>
          <Button
            leftSection={<IconCamera size={16} />}
            disabled={possible === false}
            onClick={() =>
              open({
                title: `Take a snapshot of ${nameOf(guest)}`,
                content: <TakeSnapshot guest={guest} onDone={close} />,
              })
            }
          >
            Take snapshot
          </Button>
        </Needing>
      </Group>
      {possible === false && (
        <Alert color="yellow" role="status">
          No snapshot can be taken now: a volume of the guest is on a storage that has none, or the guest is being
          worked on.
        </Alert>
      )}
      {data === undefined && <Loader aria-label="Loading" />}
      {data !== undefined && !taken && (
        <Text>There are none yet. A snapshot keeps the guest's state to go back to.</Text>
      )}
      {data !== undefined && taken && (
        <SnapshotTable tree={treeOf(data)} entries={(row) => entriesOf(guest, row, open, close)} />
      )}
      {element}
    </Stack>
  );
}

function entriesOf(guest: GuestRow, row: SnapshotRow, open: Dialog["open"], close: () => void): readonly MenuEntry[] {
  const shown = { guest, row, onDone: close };
  return [
    { label: "Roll back", action: rollBack(guest, row, false) },
    ...(row.vmstate ? [] : [{ label: "Roll back and start", action: rollBack(guest, row, true) }]),
    {
      label: "Edit description",
      open: () => open({ title: `Snapshot ${row.name}`, content: <DescribeSnapshot {...shown} /> }),
    },
    {
      label: "Show what it keeps",
      open: () =>
        open({ title: `What ${row.name} keeps`, size: "xl", content: <SnapshotConfig guest={guest} row={row} /> }),
    },
    {
      label: "Clone from here",
      open: () => open({ title: `Clone of ${nameOf(guest)} at ${row.name}`, content: <CloneSnapshot {...shown} /> }),
    },
    { label: "Delete", action: forget(guest, row) },
    ...(row.snapstate === undefined ? [] : [{ label: "Delete by force", action: forget(guest, row, true) }]),
  ];
}
