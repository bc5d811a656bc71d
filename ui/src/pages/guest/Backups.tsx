/** The backups of one guest. */
import { Alert, Button, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { IconDeviceFloppy } from "@tabler/icons-react";
import { told } from "../../api/errors";
import { BackUpForm } from "../../components/BackUpForm";
import { BackupTable } from "../../components/BackupTable";
import { useBackupEntries } from "../../components/backupDialogs";
import { Needing } from "../../components/Denied";
import { SilentStorages } from "../../components/SilentStorages";
import { useDialog } from "../../components/useDialog";
import { useBackups } from "../../hooks/backups";
import type { GuestRow } from "../../hooks/resources";
import { path } from "../../logic/actions";
import { ofGuest } from "../../logic/backups";
import { nameOf } from "../../logic/guestActions";

export function Backups({ guest }: { guest: GuestRow }) {
  const { data, error } = useBackups(guest.node);
  const dialog = useDialog();
  const entries = useBackupEntries(guest.node, dialog);
  const rows = data?.rows.filter((row) => (ofGuest(row.volid)?.vmid ?? row.vmid) === guest.vmid);
  return (
    <Stack>
      <Group justify="space-between">
        <Title order={2} size="h3">
          Backups
        </Title>
        <Needing wanted={{ method: "POST", path: path`/nodes/${guest.node}/vzdump`, parameters: { vmid: guest.vmid } }}>
          <Button
            leftSection={<IconDeviceFloppy size={16} />}
            onClick={() =>
              dialog.open({
                title: `Back up ${nameOf(guest)}`,
                content: <BackUpForm node={guest.node} guest={guest} onDone={dialog.close} />,
              })
            }
          >
            Back up now
          </Button>
        </Needing>
      </Group>
      {error !== null && (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
      <SilentStorages silent={data?.silent ?? []} />
      {rows === undefined && error === null && <Loader aria-label="Loading" />}
      {rows?.length === 0 && <Text>There are none yet.</Text>}
      {rows !== undefined && rows.length > 0 && <BackupTable rows={rows} entries={entries} />}
      {dialog.element}
    </Stack>
  );
}
