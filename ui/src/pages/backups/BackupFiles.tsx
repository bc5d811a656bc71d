/** Looking into a backup: its folders, and downloads of single files. */
import { Alert, Anchor, Breadcrumbs, Button, Group, Loader, Stack, Table, Text, TextInput, Title } from "@mantine/core";
import { IconDownload, IconFile, IconFolder } from "@tabler/icons-react";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { told } from "../../api/errors";
import { type FileRow, useBackupFolder } from "../../hooks/backups";
import { downloading } from "../../hooks/downloads";
import { useAnyNode } from "../../hooks/nodes";
import { path, shellCommand } from "../../logic/actions";
import { decodePath, encodePath, ofGuest, shortName, storageOf } from "../../logic/backups";
import { bytes, moment } from "../../logic/units";

const SHOWN = 500;

const KINDS: Readonly<Record<string, string>> = {
  d: "folder",
  f: "file",
  l: "link",
  h: "hard link",
  v: "file system",
  p: "pipe",
  s: "socket",
  b: "block device",
  c: "character device",
};

export function BackupFiles() {
  const { volid } = useParams({ from: "/backups/files/$volid" });
  const node = useAnyNode();
  const search = useSearch({ from: "/backups/files/$volid" });
  const folder = search.folder?.startsWith("/") ? search.folder : "/";
  const navigate = useNavigate({ from: "/backups/files/$volid" });
  const setFolder = (next: string) => void navigate({ search: { folder: next } });
  const { data, error, isPending } = useBackupFolder(node, volid, folder);
  const guest = ofGuest(volid);
  return (
    <Stack>
      <Title order={1} size="h2" style={{ overflowWrap: "anywhere" }}>
        Files in {shortName(volid)}
      </Title>
      <Group justify="space-between">
        <Path folder={folder} onOpen={setFolder} />
        <Anchor component={Link} to={guest === undefined ? "/backups" : `/guests/${guest.vmid}/backups`} size="sm">
          {guest === undefined ? "All backups" : "All backups of the guest"}
        </Anchor>
      </Group>
      {error !== null && (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
      {isPending && error === null && (
        <Group role="status">
          <Loader size="sm" aria-hidden />
          <Text size="sm">Looking into the backup. The first look may take a while.</Text>
        </Group>
      )}
      {data !== undefined && node !== undefined && (
        <Folder key={folder} node={node} volid={volid} rows={data} onOpen={setFolder} />
      )}
      <Text size="sm" c="dimmed" className="wrapped">
        {shellCommand("bastide", "restore-file", volid, folder)}
      </Text>
    </Stack>
  );
}

function Path({ folder, onOpen }: { folder: string; onOpen: (folder: string) => void }) {
  const parts = folder.split("/").filter(Boolean);
  const places = parts.map((name, index) => ({ name, to: `/${parts.slice(0, index + 1).join("/")}/` }));
  return (
    <Breadcrumbs component="nav" aria-label="Folder" style={{ flexWrap: "wrap" }}>
      {[{ name: "Backup", to: "/" }, ...places].map(({ name, to }) => (
        <Anchor key={to} component="button" type="button" size="sm" mih={24} onClick={() => onOpen(to)}>
          {name}
        </Anchor>
      ))}
    </Breadcrumbs>
  );
}

interface FolderProps {
  node: string;
  volid: string;
  rows: readonly FileRow[];
  onOpen: (folder: string) => void;
}

function Folder({ node, volid, rows, onOpen }: FolderProps) {
  const [search, setSearch] = useState("");
  const found = rows.filter((row) => row.text.toLowerCase().includes(search.toLowerCase()));
  if (rows.length === 0) {
    return <Text role="status">The folder is empty.</Text>;
  }
  return (
    <Stack gap="xs">
      {rows.length > 20 && (
        <TextInput
          type="search"
          aria-label="Search in the folder"
          placeholder="Name"
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
      )}
      <Table.ScrollContainer minWidth={620} type="native" tabIndex={0} role="region" aria-label="Files">
        <Table aria-label="Files">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Name</Table.Th>
              <Table.Th>Type</Table.Th>
              <Table.Th ta="right">Size</Table.Th>
              <Table.Th>Changed</Table.Th>
              <Table.Th>Download</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {found.slice(0, SHOWN).map((row) => (
              <File key={row.filepath} node={node} volid={volid} row={row} onOpen={onOpen} />
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {found.length > SHOWN && (
        <Text size="sm" role="status">
          {SHOWN} of {found.length} are shown: search for the others.
        </Text>
      )}
    </Stack>
  );
}

function File({ node, volid, row, onOpen }: Omit<FolderProps, "rows"> & { row: FileRow }) {
  const place = decodePath(row.filepath);
  return (
    <Table.Tr>
      <Table.Td className="wrapped">
        <Group gap="xs" wrap="nowrap">
          {row.leaf ? <IconFile size={16} aria-hidden /> : <IconFolder size={16} aria-hidden />}
          {row.leaf ? (
            <Text size="sm">{row.text}</Text>
          ) : (
            <Anchor
              component="button"
              type="button"
              size="sm"
              mih={24}
              ta="left"
              onClick={() => onOpen(place.endsWith("/") ? place : `${place}/`)}
            >
              {row.text}
            </Anchor>
          )}
        </Group>
      </Table.Td>
      <Table.Td>{KINDS[row.type] ?? row.type}</Table.Td>
      <Table.Td ta="right" className="figures">
        {row.type === "f" ? bytes(row.size) : ""}
      </Table.Td>
      <Table.Td className="figures">{row.mtime === undefined ? "" : moment(row.mtime)}</Table.Td>
      <Table.Td>
        <Downloads node={node} volid={volid} row={row} place={place} />
      </Table.Td>
    </Table.Tr>
  );
}

function Downloads({ node, volid, row, place }: Pick<FolderProps, "node" | "volid"> & { row: FileRow; place: string }) {
  // No file comes of a symbolic link, which leads to another place of the backup, and no folder out of a VM's disks.
  if (!["f", "h", ...(ofGuest(volid)?.kind === "qemu" ? [] : ["d"])].includes(row.type)) {
    return null;
  }
  const link = (tar: boolean) => {
    const query = new URLSearchParams({
      volume: volid,
      filepath: encodePath(place.replace(/(.)\/$/, "$1")),
      ...(tar && { tar: "1" }),
    });
    return `${path`/api2/json/nodes/${node}/storage/${storageOf(volid)}/file-restore/download`}?${query}`;
  };
  const kinds =
    row.type === "d"
      ? ([
          ["zip", false],
          ["tar", true],
        ] as const)
      : ([["file", false]] as const);
  return (
    <Group gap={4} wrap="nowrap">
      {kinds.map(([word, tar]) => (
        <Button
          key={word}
          component="a"
          {...downloading(link(tar))}
          size="compact-sm"
          variant="default"
          leftSection={<IconDownload size={14} />}
          aria-label={`Download ${row.text} as ${word}`}
        >
          {word}
        </Button>
      ))}
    </Group>
  );
}
