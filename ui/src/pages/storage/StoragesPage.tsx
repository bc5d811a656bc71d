/** All storages: what they are, what they may hold, how full they are. */
import { Anchor, Badge, Button, Loader, Table, Text, VisuallyHidden } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { ActionMenu } from "../../components/ActionMenu";
import { Refusal } from "../../components/Asked";
import { Needing } from "../../components/Denied";
import { PageFrame } from "../../components/PageFrame";
import { WideTable } from "../../components/WideTable";
import { useDaemon } from "../../hooks/creating";
import { type StorageConfig, type StorageStatus, useNodeStorages, useStorageConfigs } from "../../hooks/storage";
import { placeOf, removeStorage, stateOf } from "../../logic/storages";
import { contentLabel } from "../../logic/volumes";
import { AddStorage } from "./AddStorage";
import { Space } from "./Space";

export function StoragesPage() {
  const node = useDaemon().data?.node;
  const configs = useStorageConfigs();
  const seen = useNodeStorages(node);
  const [adding, { open, close }] = useDisclosure();
  return (
    <PageFrame
      title="Storage"
      actions={
        <Needing wanted={{ method: "POST", path: "/storage" }}>
          <Button leftSection={<IconPlus size={16} />} onClick={open}>
            Add storage
          </Button>
        </Needing>
      }
    >
      {(configs.error ?? seen.error) !== null && <Refusal error={configs.error ?? seen.error} />}
      {configs.isPending && <Loader aria-label="Loading" />}
      {configs.data !== undefined && <Storages rows={configs.data} seen={seen.data ?? []} />}
      <AddStorage opened={adding} onClose={close} />
    </PageFrame>
  );
}

function Storages({ rows, seen }: { rows: readonly StorageConfig[]; seen: readonly StorageStatus[] }) {
  return (
    <WideTable
      label="Storages"
      minWidth={980}
      head={[
        "Storage",
        "Type",
        "State",
        "Use",
        "Where",
        "Content",
        <VisuallyHidden key="actions">Actions</VisuallyHidden>,
      ]}
    >
      {rows.map((row) => (
        <Row key={row.storage} row={row} status={seen.find((one) => one.storage === row.storage)} />
      ))}
    </WideTable>
  );
}

function Row({ row, status }: { row: StorageConfig; status: StorageStatus | undefined }) {
  return (
    <Table.Tr>
      <Table.Td>
        <Anchor component={Link} to={`/storage/${row.storage}`}>
          {row.storage}
        </Anchor>
      </Table.Td>
      <Table.Td>{row.type}</Table.Td>
      <Table.Td>
        <StorageState status={status} />
      </Table.Td>
      <Table.Td miw={280}>{status?.active ? <Space used={status.used} total={status.total} /> : "–"}</Table.Td>
      <Table.Td className="wrapped" miw={160}>
        {placeOf(row)}
      </Table.Td>
      <Table.Td>
        <Text size="sm">{row.content.split(",").map(contentLabel).join(", ")}</Text>
      </Table.Td>
      <Table.Td>
        <ActionMenu
          label={`More for ${row.storage}`}
          entries={[{ label: "Remove", action: removeStorage(row.storage, row.type) }]}
        />
      </Table.Td>
    </Table.Tr>
  );
}

export function StorageState({ status }: { status: StorageStatus | undefined }) {
  if (status === undefined) {
    return <span>–</span>;
  }
  const state = stateOf(status);
  const color = { ok: "green", disabled: "gray", away: "red" }[state];
  return (
    <Badge component="span" variant="light" color={color} tt="none" miw="max-content">
      {{ ok: "available", disabled: "disabled", away: "does not answer" }[state]}
    </Badge>
  );
}
