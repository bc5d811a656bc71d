/** All backups on all storages, found by name, id, storage or notes. */
import { Alert, Button, Group, Loader, Stack, Text, TextInput } from "@mantine/core";
import { IconDeviceFloppy, IconSearch } from "@tabler/icons-react";
import { useDeferredValue, useMemo, useState } from "react";
import { told } from "../../api/errors";
import { BackUpForm } from "../../components/BackUpForm";
import { BackupTable } from "../../components/BackupTable";
import { useBackupEntries } from "../../components/backupDialogs";
import { SilentStorages } from "../../components/SilentStorages";
import { useDialog } from "../../components/useDialog";
import { useBackups } from "../../hooks/backups";
import { useGuests } from "../../hooks/resources";
import { matching } from "../../logic/backups";
import { nameOf } from "../../logic/guestActions";
import { bytes } from "../../logic/units";

export function BackupList({ node }: { node: string }) {
  const { data, error } = useBackups(node);
  const guests = useGuests().data;
  const dialog = useDialog();
  const entries = useBackupEntries(node, dialog);
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(search);
  const names = useMemo(() => new Map(guests?.map((row) => [row.vmid, nameOf(row)])), [guests]);
  const rows = useMemo(
    () => matching(data?.rows ?? [], wanted, (vmid) => names.get(vmid) ?? ""),
    [data, wanted, names],
  );
  const size = rows.reduce((sum, row) => sum + row.size, 0);
  return (
    <Stack>
      <Group justify="space-between">
        <TextInput
          type="search"
          aria-label="Search backups"
          placeholder="Guest, id, storage or notes"
          leftSection={<IconSearch size={16} />}
          w={{ base: "100%", sm: 320 }}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
        <Button
          leftSection={<IconDeviceFloppy size={16} />}
          onClick={() =>
            dialog.open({ title: "Back up now", content: <BackUpForm node={node} onDone={dialog.close} /> })
          }
        >
          Back up now
        </Button>
      </Group>
      {error !== null && (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
      <SilentStorages silent={data?.silent ?? []} />
      {data === undefined && error === null && <Loader aria-label="Loading" />}
      {data !== undefined && (
        <Text size="sm" c="dimmed" role="status">
          {rows.length === 0
            ? "No backups"
            : `${rows.length} ${rows.length === 1 ? "backup" : "backups"}, ${bytes(size)}`}
        </Text>
      )}
      {rows.length > 0 && <BackupTable rows={rows} nameOf={(vmid) => names.get(vmid)} entries={entries} />}
      {dialog.element}
    </Stack>
  );
}
