/** Whether backups are whole and can be restored: verifying, trying, and how it went. */
import { Alert, Anchor, Badge, Button, Group, Loader, Stack, Table, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { told } from "../../api/errors";
import { SchemaForm } from "../../components/SchemaForm";
import { useDialog } from "../../components/useDialog";
import { type RestoreTest, useRestoreTests } from "../../hooks/backupJobs";
import { useBackupStorages } from "../../hooks/backups";
import { useGuests } from "../../hooks/resources";
import { useNodeStorages } from "../../hooks/storage";
import { shortName, tryRestore, verify } from "../../logic/backups";
import { nameOf } from "../../logic/guestActions";
import { given } from "../../logic/schema";
import { duration, moment } from "../../logic/units";
import { testFields } from "./JobForm";

export function Proofs({ node }: { node: string }) {
  const dialog = useDialog();
  const done = { node, onDone: dialog.close };
  return (
    <Stack>
      <Group>
        <Button onClick={() => dialog.open({ title: "Verify backups", content: <VerifyForm {...done} /> })}>
          Verify now
        </Button>
        <Button onClick={() => dialog.open({ title: "Test restoring", size: "lg", content: <TestForm {...done} /> })}>
          Test restoring now
        </Button>
      </Group>
      <Text size="sm">
        Verifying reads backups to their ends and compares checksums. A restore test makes a guest of the newest backup,
        unplugged, boots it, asks what came up, and removes it.
      </Text>
      <Title order={2} size="h3">
        Restore tests
      </Title>
      <Results />
      {dialog.element}
    </Stack>
  );
}

interface FormProps {
  node: string;
  onDone: () => void;
}

function useGuestOptions() {
  const guests = useGuests().data ?? [];
  return guests.map((row) => ({ value: String(row.vmid), label: `${nameOf(row)} (${row.vmid})` }));
}

function VerifyForm({ node, onDone }: FormProps) {
  const backups = useBackupStorages(node);
  const options = useGuestOptions();
  if (backups === undefined) {
    return <Loader aria-label="Loading" />;
  }
  return (
    <SchemaForm
      operation={{ method: "POST", path: "/bastide/backup/verify" }}
      fields={[
        { name: "storage", options: backups },
        { name: "vmid", label: "Guest", options, placeholder: "All" },
        { name: "outdated-after", label: "Leave out", help: "What was whole less than so many days ago." },
      ]}
      initial={{ storage: backups[0] ?? "" }}
      action={(values) => verify(given(values))}
      submit="Verify"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

function TestForm({ node, onDone }: FormProps) {
  const backups = useBackupStorages(node);
  const storages = useNodeStorages(node).data;
  const options = useGuestOptions();
  if (backups === undefined || storages === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const able = storages.filter((one) => one.active && /rootdir|images/.test(one.content)).map((one) => one.storage);
  return (
    <SchemaForm
      operation={{ method: "POST", path: "/bastide/backup/tests" }}
      fields={[
        { name: "vmid", label: "Guests", options, many: true, help: "None named: all of which there are backups." },
        ...testFields(able, backups),
      ]}
      initial={{ storage: able[0] ?? "" }}
      action={(values) => {
        const parameters = given(values);
        return tryRestore(parameters.vmid === undefined ? { ...parameters, all: true } : parameters);
      }}
      submit="Test"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

function Results() {
  const { data, error } = useRestoreTests();
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
  if (data.length === 0) {
    return <Text role="status">No restore was tried yet.</Text>;
  }
  return (
    <Table.ScrollContainer minWidth={820} type="native" tabIndex={0} role="region" aria-label="Restore tests">
      <Table aria-label="Restore tests">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Guest</Table.Th>
            <Table.Th>Tried</Table.Th>
            <Table.Th>Took</Table.Th>
            <Table.Th>Result</Table.Th>
            <Table.Th>What came of it</Table.Th>
            <Table.Th>Backup</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {data.map((test) => (
            <Result key={`${test.upid} ${test.backup}`} test={test} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Result({ test }: { test: RestoreTest }) {
  return (
    <Table.Tr>
      <Table.Td>
        {test.kind === "lxc" ? "CT" : "VM"} {test.vmid}
      </Table.Td>
      <Table.Td className="figures">
        <Anchor component={Link} to={`/tasks/${encodeURIComponent(test.upid)}`} size="sm">
          {moment(test.started)}
        </Anchor>
      </Table.Td>
      <Table.Td className="figures">{duration(test.duration)}</Table.Td>
      <Table.Td>
        <Badge variant="light" c="var(--mantine-color-text)" color={test.ok ? "green" : "red"} tt="none">
          {test.ok ? "restores" : `failed at: ${test.step}`}
        </Badge>
      </Table.Td>
      <Table.Td className="wrapped" maw={320}>
        {test.reason ?? test.output?.trim().split("\n").slice(-3).join("\n")}
      </Table.Td>
      <Table.Td className="wrapped" maw={260}>
        {shortName(test.backup)}
      </Table.Td>
    </Table.Tr>
  );
}
