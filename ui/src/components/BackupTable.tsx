/** Backups as a table. */
import { Anchor, Badge, Group, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type BackupRow, ofGuest, shortName, storageOf } from "../logic/backups";
import { bytes, moment } from "../logic/units";
import { ActionMenu, type MenuEntry } from "./ActionMenu";
import { type RowPlace, VirtualTable } from "./VirtualTable";

interface Props {
  rows: readonly BackupRow[];
  /** A guest's name; undefined for one that is gone. Without this, all are one guest's. */
  nameOf?: (vmid: number) => string | undefined;
  entries: (row: BackupRow) => readonly MenuEntry[];
}

export function BackupTable({ rows, nameOf, entries }: Props) {
  return (
    <VirtualTable
      label="Backups"
      rows={rows}
      height={46}
      maxHeight="64vh"
      minWidth={820}
      head={
        <>
          {nameOf && <Table.Th>Guest</Table.Th>}
          <Table.Th>Made</Table.Th>
          <Table.Th ta="right">Size</Table.Th>
          <Table.Th>Storage</Table.Th>
          <Table.Th>State</Table.Th>
          <Table.Th>Notes</Table.Th>
          <Table.Th aria-label="Actions" w={50} />
        </>
      }
      render={(row, place) => <Row key={row.volid} row={row} place={place} nameOf={nameOf} entries={entries(row)} />}
    />
  );
}

interface RowProps {
  row: BackupRow;
  place: RowPlace;
  nameOf: Props["nameOf"];
  entries: readonly MenuEntry[];
}

function Row({ row, place, nameOf, entries }: RowProps) {
  return (
    <Table.Tr {...place}>
      {nameOf && (
        <Table.Td>
          <Whose row={row} nameOf={nameOf} />
        </Table.Td>
      )}
      <Table.Td className="figures" style={{ whiteSpace: "nowrap" }} title={row.volid}>
        {moment(row.ctime)}
      </Table.Td>
      <Table.Td ta="right" className="figures" style={{ whiteSpace: "nowrap" }}>
        {bytes(row.size)}
      </Table.Td>
      <Table.Td>{storageOf(row.volid)}</Table.Td>
      <Table.Td>
        <States row={row} />
      </Table.Td>
      <Table.Td maw={280}>
        <Text size="sm" truncate title={row.notes}>
          {row.notes?.trim().split("\n")[0]}
        </Text>
      </Table.Td>
      <Table.Td>
        <ActionMenu label={`Actions of ${shortName(row.volid)}`} entries={entries} />
      </Table.Td>
    </Table.Tr>
  );
}

function Whose({ row, nameOf }: { row: BackupRow; nameOf: (vmid: number) => string | undefined }) {
  const guest = ofGuest(row.volid);
  const vmid = guest?.vmid ?? row.vmid;
  if (vmid === undefined) {
    return <Text size="sm">{shortName(row.volid)}</Text>;
  }
  const name = nameOf(vmid);
  const kind = guest === undefined ? "" : guest.kind === "lxc" ? "CT " : "VM ";
  if (name === undefined) {
    return (
      <Text size="sm">
        {kind}
        {vmid}, gone
      </Text>
    );
  }
  return (
    <Anchor component={Link} to={`/guests/${vmid}/backups`} size="sm">
      {name} ({kind}
      {vmid})
    </Anchor>
  );
}

function States({ row }: { row: BackupRow }) {
  const read = row.verification;
  const tried = row["restore-test"];
  return (
    <Group gap={4} wrap="nowrap">
      {Boolean(row.protected) && <State word="protected" color="blue" />}
      {read !== undefined && (
        <State
          word={read.state === "ok" ? "verified" : "damaged"}
          color={read.state === "ok" ? "green" : "red"}
          upid={read.upid}
        />
      )}
      {tried !== undefined && (
        <State word={tried.ok ? "restores" : "does not restore"} color={tried.ok ? "green" : "red"} upid={tried.upid} />
      )}
    </Group>
  );
}

function State({ word, color, upid }: { word: string; color: string; upid?: string }) {
  const badge = (
    <Badge variant="light" c="var(--mantine-color-text)" color={color} tt="none">
      {word}
    </Badge>
  );
  if (upid === undefined) {
    return badge;
  }
  return (
    <Anchor component={Link} to={`/tasks/${encodeURIComponent(upid)}`} aria-label={`${word}: show the task`}>
      {badge}
    </Anchor>
  );
}
