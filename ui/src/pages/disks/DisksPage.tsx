/** The host's own disks: what they are, what is on them, how they do, and what can be made of those that are free. */
import { Button, Group, Modal, Stack, Table, Text, Title, VisuallyHidden } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { ActionMenu } from "../../components/ActionMenu";
import { Asked } from "../../components/Asked";
import { PageFrame } from "../../components/PageFrame";
import { WideTable } from "../../components/WideTable";
import { useDaemon } from "../../hooks/creating";
import { type DiskRow, useDisks } from "../../hooks/disks";
import { initGpt, wipe } from "../../logic/disks";
import { bytes } from "../../logic/units";
import { Made } from "./Made";
import { MakeStorage } from "./MakeStorage";
import { Smart } from "./Smart";

export function DisksPage() {
  const node = useDaemon().data?.node;
  const disks = useDisks(node);
  const [making, setMaking] = useState(false);
  const [asked, setAsked] = useState<string>();
  const free = (disks.data ?? []).filter((row) => row.used === undefined && !row.mounted).map((row) => row.devpath);
  return (
    <PageFrame
      title="Disks"
      about={node === undefined ? undefined : `The disks of the host ${node} itself.`}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
          Make a storage
        </Button>
      }
    >
      <Asked query={disks}>{(rows) => <DiskTable node={node ?? "localhost"} rows={rows} onSmart={setAsked} />}</Asked>
      {node !== undefined && (
        <Stack component="section" gap="sm">
          <Title order={2} size="h4">
            Made of disks
          </Title>
          <Made node={node} />
          <Modal opened={making} onClose={() => setMaking(false)} title="Make a storage of disks" size="lg">
            <MakeStorage node={node} free={free} onClose={() => setMaking(false)} />
          </Modal>
          <Modal
            opened={asked !== undefined}
            onClose={() => setAsked(undefined)}
            title={`Health of ${asked}`}
            size="xl"
          >
            {asked !== undefined && <Smart node={node} disk={asked} />}
          </Modal>
        </Stack>
      )}
    </PageFrame>
  );
}

const HEAD = ["Disk", "Kind", "Size", "Used as", "Health", "Wear", "Model"];

interface TableProps {
  node: string;
  rows: readonly DiskRow[];
  onSmart: (disk: string) => void;
}

function DiskTable({ node, rows, onSmart }: TableProps) {
  return (
    <WideTable label="Disks" minWidth={860} head={[...HEAD, <VisuallyHidden key="actions">Actions</VisuallyHidden>]}>
      {rows.map((row) => (
        <Row key={row.devpath} node={node} row={row} onSmart={onSmart} />
      ))}
    </WideTable>
  );
}

function Row({ node, row, onSmart }: { node: string; row: DiskRow; onSmart: TableProps["onSmart"] }) {
  const whole = row.parent === undefined;
  const used = row.used ?? (row.mounted ? "mounted" : "nothing");
  const named = [row.vendor, row.model, row.serial].filter((one) => one !== undefined && one !== "unknown");
  const left = typeof row.wearout === "number" ? `${row.wearout} % left` : "";
  return (
    <Table.Tr>
      <Table.Td pl={whole ? "xs" : "lg"}>{row.devpath}</Table.Td>
      <Table.Td>{whole ? row.type : "partition"}</Table.Td>
      <Table.Td className="figures">{bytes(row.size)}</Table.Td>
      <Table.Td>{used}</Table.Td>
      <Table.Td>{whole && <Health health={row.health} />}</Table.Td>
      <Table.Td>{left}</Table.Td>
      <Table.Td>{named.join(" ")}</Table.Td>
      <Table.Td>
        <Group justify="flex-end">
          <ActionMenu
            label={`More for ${row.devpath}`}
            entries={[
              ...(whole ? [{ label: "Show health", open: () => onSmart(row.devpath) }] : []),
              ...(whole && row.used === undefined
                ? [{ label: "Give it a partition table", action: initGpt(node, row.devpath) }]
                : []),
              ...(row.mounted ? [] : [{ label: "Wipe", action: wipe(node, row.devpath, row.used) }]),
            ]}
          />
        </Group>
      </Table.Td>
    </Table.Tr>
  );
}

function Health({ health }: { health: string | undefined }) {
  const good = health === "PASSED" || health === "OK";
  const bad = health !== undefined && !good && health !== "UNKNOWN";
  return (
    <Text size="sm" {...(bad && { c: "red", fw: 700 })}>
      {health === undefined || health === "UNKNOWN" ? "not told" : health}
    </Text>
  );
}
