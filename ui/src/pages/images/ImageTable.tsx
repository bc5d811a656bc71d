/** The images on all storages. */
import { Table, Text, TextInput, VisuallyHidden } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { ActionMenu } from "../../components/ActionMenu";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { WideTable } from "../../components/WideTable";
import { useDaemon } from "../../hooks/creating";
import { type ImageRow, useImages } from "../../hooks/images";
import { madeAt, removeVolume } from "../../logic/images";
import { bytes } from "../../logic/units";

const HEAD = ["Image", "For", "Cloud-init", "Size", "Made", "Storage"];

export function ImageTable() {
  const images = useImages();
  const [text, setText] = useState("");
  const words = text.toLowerCase();
  const fits = (row: ImageRow) => `${row.alias ?? ""} ${row.name} ${row.storage}`.toLowerCase().includes(words);
  return (
    <Asked query={images}>
      {(rows) =>
        rows.length === 0 ? (
          <Empty title="There are no images yet">
            <Text>Build one of this host's package sources, or pull one from elsewhere.</Text>
          </Empty>
        ) : (
          <>
            <TextInput
              mb="sm"
              aria-label="Search images"
              placeholder="Search by name or storage"
              leftSection={<IconSearch size={16} aria-hidden />}
              value={text}
              onChange={(event) => setText(event.currentTarget.value)}
            />
            <WideTable
              label="Images"
              minWidth={820}
              head={[...HEAD, <VisuallyHidden key="actions">Actions</VisuallyHidden>]}
            >
              {rows.filter(fits).map((row) => (
                <Row key={row.volid} row={row} />
              ))}
            </WideTable>
          </>
        )
      }
    </Asked>
  );
}

function Row({ row }: { row: ImageRow }) {
  const navigate = useNavigate();
  const node = useDaemon().data?.node ?? "localhost";
  const container = row.type === "lxc";
  const search = container ? { ostemplate: row.volid } : { image: row.volid };
  const make = () => void navigate({ to: container ? "/create/ct" : "/create/vm", search: search as never });
  const knownCloud = row.cloudinit === undefined ? "not known" : row.cloudinit === 1 ? "yes" : "no";
  return (
    <Table.Tr>
      <Table.Td>
        <Text size="sm" fw={600}>
          {row.alias ?? row.name}
        </Text>
        {row.alias !== undefined && (
          <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
            {row.name}
          </Text>
        )}
      </Table.Td>
      <Table.Td>{container ? "CT" : "VM"}</Table.Td>
      <Table.Td>{knownCloud}</Table.Td>
      <Table.Td className="figures">{bytes(row.size)}</Table.Td>
      <Table.Td className="figures">{madeAt(row)}</Table.Td>
      <Table.Td>{row.storage}</Table.Td>
      <Table.Td>
        <ActionMenu
          label={`More for ${row.volid}`}
          entries={[
            { label: container ? "Create CT from it" : "Create VM from it", open: make },
            { label: "Remove", action: removeVolume(node, row.volid, row.size) },
          ]}
        />
      </Table.Td>
    </Table.Tr>
  );
}
