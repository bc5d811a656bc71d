/** Volumes as a table of which only the rows in sight are in the document. */
import { Anchor, Badge, Box, Group, Table, Text, VisuallyHidden } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import { ActionMenu, type MenuEntry } from "../../components/ActionMenu";
import type { VolumeRow } from "../../hooks/storage";
import { removeVolume } from "../../logic/images";
import { protectVolume } from "../../logic/storages";
import { bytes, moment } from "../../logic/units";
import { contentLabel, splitVolume } from "../../logic/volumes";

const ROW_HEIGHT = 44;

interface Props {
  node: string;
  rows: readonly VolumeRow[];
  onCopy: (volid: string) => void;
}

export function VolumeTable({ node, rows, onCopy }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  const items = seen.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = seen.getTotalSize() - (items.at(-1)?.end ?? 0);
  if (rows.length === 0) {
    return <Text>Nothing of that kind is on it.</Text>;
  }
  return (
    <Box ref={frame} mah="60vh" tabIndex={0} role="region" aria-label="Volumes" style={{ overflow: "auto" }}>
      <Table stickyHeader miw={720} aria-rowcount={rows.length}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Name</Table.Th>
            <Table.Th>Content</Table.Th>
            <Table.Th>Size</Table.Th>
            <Table.Th>Guest</Table.Th>
            <Table.Th>Made</Table.Th>
            <Table.Th>
              <VisuallyHidden>Actions</VisuallyHidden>
            </Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {above > 0 && <Table.Tr aria-hidden h={above} />}
          {items.map((item) => {
            const row = rows[item.index];
            return (
              row && (
                <Row
                  key={row.volid}
                  node={node}
                  row={row}
                  index={item.index}
                  measure={seen.measureElement}
                  onCopy={onCopy}
                />
              )
            );
          })}
          {below > 0 && <Table.Tr aria-hidden h={below} />}
        </Table.Tbody>
      </Table>
    </Box>
  );
}

interface RowProps extends Pick<Props, "node" | "onCopy"> {
  row: VolumeRow;
  index: number;
  measure: (element: HTMLTableRowElement | null) => void;
}

function Row({ node, row, index, measure, onCopy }: RowProps) {
  const { name } = splitVolume(row.volid);
  return (
    <Table.Tr ref={measure} h={ROW_HEIGHT} data-index={index} aria-rowindex={index + 1}>
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
