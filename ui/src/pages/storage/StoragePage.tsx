/** One storage: how full it is, what is on it, its options. */
import { Button, Group, Modal, Paper, SimpleGrid, Stack, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useNavigate, useParams } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { Refusal } from "../../components/Asked";
import { Needing } from "../../components/Denied";
import { PageFrame } from "../../components/PageFrame";
import { SchemaForm } from "../../components/SchemaForm";
import { SubjectPermissions } from "../../components/SubjectPermissions";
import { useDaemon } from "../../hooks/creating";
import {
  type StorageConfig,
  type StorageMeans,
  type StorageStatus,
  useNodeStorages,
  useStorageConfigs,
  useStorageMeans,
  useStorageTypes,
} from "../../hooks/storage";
import { path } from "../../logic/actions";
import { asValues, labelOf } from "../../logic/schema";
import { changeStorage, removeStorage, storageFields } from "../../logic/storages";
import { bytes, percent } from "../../logic/units";
import { Contents } from "./Contents";
import { Space } from "./Space";
import { StorageChart } from "./StorageChart";
import { StorageKey } from "./StorageKey";
import { StorageState } from "./StoragesPage";

export function StoragePage() {
  const { storage } = useParams({ from: "/storage/$storage" });
  const node = useDaemon().data?.node;
  const configs = useStorageConfigs();
  const config = configs.data?.find((row) => row.storage === storage);
  const status = useNodeStorages(node).data?.find((row) => row.storage === storage);
  const means = useStorageMeans().data?.find((row) => row.storage === storage);
  return (
    <PageFrame title={storage} about={<StorageState status={status} />} actions={config && <Actions config={config} />}>
      {configs.error !== null && <Refusal error={configs.error} />}
      {configs.isSuccess && config === undefined && (
        <Text>There is no storage of that name, or you may not see it.</Text>
      )}
      {node !== undefined && config !== undefined && (
        <>
          <SimpleGrid cols={{ base: 1, md: 2 }}>
            <Room status={status} means={means} />
            <StorageChart node={node} storage={storage} />
          </SimpleGrid>
          <Contents
            node={node}
            storage={storage}
            content={config.content}
            active={Boolean(status?.active)}
            disabled={status?.enabled === 0}
          />
          <Options config={config} />
          <SubjectPermissions subject={{ name: storage, path: `/storage/${storage}` }} />
        </>
      )}
    </PageFrame>
  );
}

function Actions({ config }: { config: StorageConfig }) {
  const navigate = useNavigate();
  const [editing, { open, close }] = useDisclosure();
  const { storage, type } = config;
  return (
    <Group gap="xs">
      {type === "borg" && <StorageKey storage={storage} />}
      <Needing wanted={{ method: "PUT", path: path`/storage/${storage}` }}>
        <Button variant="default" onClick={open}>
          Edit
        </Button>
      </Needing>
      <ActionButton action={removeStorage(storage, type)} onDone={() => void navigate({ to: "/storage" })}>
        Remove
      </ActionButton>
      <Modal opened={editing} onClose={close} title={`Edit ${storage}`} size="lg">
        <Edit config={config} onClose={close} />
      </Modal>
    </Group>
  );
}

function Edit({ config, onClose }: { config: StorageConfig; onClose: () => void }) {
  const facts = useStorageTypes().data?.find((one) => one.type === config.type);
  const { digest, storage, type, ...options } = config;
  const before = asValues(Object.fromEntries(Object.entries(options).filter(([name]) => !facts?.fixed.includes(name))));
  return facts === undefined ? null : (
    <SchemaForm
      operation={{ method: "PUT", path: "/storage/{storage}" }}
      fields={storageFields(facts, true)}
      initial={before}
      action={(values) => changeStorage(storage, before, values, digest === undefined ? undefined : String(digest))}
      submit="Save"
      onCancel={onClose}
      onDone={onClose}
    />
  );
}

const SILENT = { disabled: "It is disabled.", away: "It does not tell while it does not answer." } as const;

function Room({ status, means }: { status: StorageStatus | undefined; means: StorageMeans | undefined }) {
  const promised = status?.promised === undefined ? "" : ` (${percent(status.promised)} of the size)`;
  return (
    <Paper component="section" withBorder p="md" miw={0}>
      <Title order={2} size="h4" mb="sm">
        Space
      </Title>
      <Stack gap="xs">
        {status?.active ? (
          <Space used={status.used} total={status.total} />
        ) : (
          <Text>{SILENT[status?.enabled === 0 ? "disabled" : "away"]}</Text>
        )}
        {Boolean(status?.allocated) && (
          <Text size="sm">
            Its volumes may grow to {bytes(status?.allocated)}
            {promised}.
          </Text>
        )}
        {means?.["copy-on-write"] !== undefined && (
          <Text size="sm">Linked clones and snapshots share blocks: {means["copy-on-write"]}.</Text>
        )}
        {means?.lacks !== undefined && <Text size="sm">Not installed on the host: {means.lacks}.</Text>}
      </Stack>
    </Paper>
  );
}

function Options({ config }: { config: StorageConfig }) {
  const rows = Object.entries(config).filter(([name]) => name !== "digest" && name !== "storage");
  return (
    <Stack component="section" gap="xs">
      <Title order={2} size="h4">
        Options
      </Title>
      <Table layout="fixed" aria-label="Options">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="35%">Option</Table.Th>
            <Table.Th>Value</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map(([name, value]) => (
            <Table.Tr key={name}>
              <Table.Td className="wrapped">{labelOf(name)}</Table.Td>
              <Table.Td className="wrapped">{String(value)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Stack>
  );
}
