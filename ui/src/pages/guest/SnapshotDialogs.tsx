/** What is asked of a snapshot: a new one, another description, a clone, what it keeps. */
import { Alert, Loader, Table, Text } from "@mantine/core";
import { told } from "../../api/errors";
import { SchemaForm } from "../../components/SchemaForm";
import { useNextId, usePools } from "../../hooks/creating";
import { useConfig } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { useSnapshotConfig } from "../../hooks/snapshots";
import { useNodeStorages } from "../../hooks/storage";
import { given } from "../../logic/schema";
import { cloneFrom, describe, type SnapshotRow, take } from "../../logic/snapshots";
import { bytes } from "../../logic/units";

interface FormProps {
  guest: GuestRow;
  onDone: () => void;
}

export function TakeSnapshot({ guest, onDone }: FormProps) {
  const memory = guest.type === "qemu" && guest.status === "running";
  const name = {
    name: "snapname",
    label: "Name",
    placeholder: "before-update",
    help: "A letter, then letters, digits, - or _.",
  };
  const kept = {
    name: "vmstate",
    label: "With memory",
    help: `Its programs go on where they were after a rollback. Takes up to ${bytes(guest.maxmem)} of space, and time.`,
  };
  return (
    <SchemaForm
      operation={{ method: "POST", path: `/nodes/{node}/${guest.type}/{vmid}/snapshot` }}
      fields={[name, { name: "description", lines: 2 }, ...(memory ? [kept] : [])]}
      action={(values) => take(guest, given(values))}
      submit="Take snapshot"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

export function DescribeSnapshot({ guest, row, onDone }: FormProps & { row: SnapshotRow }) {
  return (
    <SchemaForm
      operation={{ method: "PUT", path: `/nodes/{node}/${guest.type}/{vmid}/snapshot/{snapname}/config` }}
      fields={[{ name: "description", lines: 3 }]}
      initial={{ description: row.description?.trim() ?? "" }}
      action={(values) => describe(guest, row.name, values.description ?? "")}
      submit="Save"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

export function CloneSnapshot({ guest, row, onDone }: FormProps & { row: SnapshotRow }) {
  const next = useNextId().data;
  const storages = useNodeStorages(guest.node).data ?? [];
  const pools = usePools().data ?? [];
  if (next === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const name = { name: guest.type === "lxc" ? "hostname" : "name", label: "Name" };
  const content = guest.type === "lxc" ? "rootdir" : "images";
  const able = storages.filter((one) => one.active && one.content.split(",").includes(content));
  const storage = { name: "storage", placeholder: "The same", options: able.map((one) => one.storage) };
  const pool = { name: "pool", options: pools.map((one) => one.poolid) };
  return (
    <SchemaForm
      operation={{ method: "POST", path: `/nodes/{node}/${guest.type}/{vmid}/clone` }}
      fields={[{ name: "newid", label: "VMID" }, name, storage, ...(pools.length > 0 ? [pool] : [])]}
      initial={{ newid: next }}
      action={(values) => cloneFrom(guest, row.name, given(values))}
      submit="Clone"
      onDone={onDone}
      onCancel={onDone}
    />
  );
}

/** The options that it keeps, beside those of now where they differ. */
export function SnapshotConfig({ guest, row }: { guest: GuestRow; row: SnapshotRow }) {
  const then = useSnapshotConfig(guest, row.name);
  const now = useConfig(guest).data;
  if (then.error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(then.error)}
      </Alert>
    );
  }
  if (then.data === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const keys = Object.keys(then.data).filter((key) => !OF_ITSELF.has(key));
  return (
    <Table.ScrollContainer minWidth={480} type="native" tabIndex={0} role="region" aria-label="Options that it keeps">
      <Table aria-label={`Options that ${row.name} keeps`}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Option</Table.Th>
            <Table.Th>Then</Table.Th>
            <Table.Th>Now, where it differs</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {keys.sort().map((key) => (
            <Table.Tr key={key}>
              <Table.Th scope="row">{key}</Table.Th>
              <Table.Td className="wrapped">{String(then.data[key])}</Table.Td>
              <Table.Td className="wrapped">
                <Text size="sm" fw={600}>
                  {now === undefined || now[key] === then.data[key] ? "" : String(now[key] ?? "not set")}
                </Text>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

const OF_ITSELF = new Set(["snaptime", "parent", "vmstate", "runningmachine", "runningcpu", "snapstate", "digest"]);
