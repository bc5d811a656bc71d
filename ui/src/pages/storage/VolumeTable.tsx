/** Volumes as a table. */
import { Anchor, Badge, Group, Table, Text, VisuallyHidden } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { ActionMenu, type MenuEntry } from "../../components/ActionMenu";
import { type RowPlace, VirtualTable } from "../../components/VirtualTable";
import type { VolumeRow } from "../../hooks/storage";
import { removeVolume } from "../../logic/images";
import { protectVolume } from "../../logic/storages";
import { bytes, moment } from "../../logic/units";
import { contentLabel, splitVolume } from "../../logic/volumes";

interface Props {
  node: string;
  rows: readonly VolumeRow[];
  onCopy: (volid: string) => void;
}

export function VolumeTable({ node, rows, onCopy }: Props) {
  if (rows.length === 0) {
    return <Text>Nothing of that kind is on it.</Text>;
  }
  return (
    <VirtualTable
      label="Volumes"
      rows={rows}
      height={44}
      maxHeight="60vh"
      minWidth={720}
      head={
        <>
          <Table.Th>Name</Table.Th>
          <Table.Th>Content</Table.Th>
          <Table.Th>Size</Table.Th>
          <Table.Th>Guest</Table.Th>
          <Table.Th>Made</Table.Th>
          <Table.Th>
            <VisuallyHidden>Actions</VisuallyHidden>
          </Table.Th>
        </>
      }
      render={(row, place) => <Row key={row.volid} node={node} row={row} place={place} onCopy={onCopy} />}
    />
  );
}

interface RowProps extends Pick<Props, "node" | "onCopy"> {
  row: VolumeRow;
  place: RowPlace;
}

function Row({ node, row, place, onCopy }: RowProps) {
  const { name } = splitVolume(row.volid);
  return (
    <Table.Tr {...place}>
      <Table.Td>
        <Group gap="xs" wrap="nowrap">
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            {name}
          </Text>
          {row.protected === 1 && (
            <Badge variant="light" tt="none">
              protected
            </Badge>
          )}
        </Group>
        {row.notes !== undefined && row.notes !== "" && (
          <Text size="xs" c="dimmed" lineClamp={1}>
            {row.notes}
          </Text>
        )}
      </Table.Td>
      <Table.Td>
        {contentLabel(row.content)} ({row.format})
      </Table.Td>
      <Table.Td className="figures">{bytes(row.size)}</Table.Td>
      <Table.Td>
        {row.vmid !== undefined && (
          <Anchor component={Link} to={`/guests/${row.vmid}/summary`}>
            {row.vmid}
          </Anchor>
        )}
      </Table.Td>
      <Table.Td className="figures">{moment(row.ctime)}</Table.Td>
      <Table.Td>
        <VolumeMenu node={node} row={row} onCopy={onCopy} />
      </Table.Td>
    </Table.Tr>
  );
}

/** What is made of a kind of file: the form of a new guest, with the file in it. */
const MADE_OF: Readonly<Record<string, { label: string; to: string; search: string }>> = {
  vztmpl: { label: "Create CT from it", to: "/create/ct", search: "ostemplate" },
  iso: { label: "Create VM from it", to: "/create/vm", search: "iso" },
  import: { label: "Create VM from it", to: "/create/vm", search: "image" },
};

function VolumeMenu({ node, row, onCopy }: { node: string; row: VolumeRow; onCopy: Props["onCopy"] }) {
  const navigate = useNavigate();
  const make = MADE_OF[row.content];
  const guests = row.content === "images" || row.content === "rootdir";
  const source = row.content === "iso" ? { source: "iso" } : {};
  const entries: MenuEntry[] = [
    ...(make === undefined
      ? []
      : [
          {
            label: make.label,
            open: () => void navigate({ to: make.to, search: { [make.search]: row.volid, ...source } as never }),
          },
        ]),
    ...(guests ? [{ label: "Copy", open: () => onCopy(row.volid) }] : []),
    ...(row.content === "backup"
      ? [
          {
            label: row.protected === 1 ? "Unprotect" : "Protect",
            action: protectVolume(node, row.volid, row.protected !== 1),
          },
        ]
      : []),
    { label: "Remove", action: removeVolume(node, row.volid, row.size) },
  ];
  return <ActionMenu label={`More for ${row.volid}`} entries={entries} />;
}
