/** A service of the catalog: what it needs, how large it is, where it listens, where all that is from. */
import { Anchor, Button, List, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { Asked } from "../../components/Asked";
import { RowLink } from "../../components/RowLink";
import { WideTable } from "../../components/WideTable";
import { type CatalogEntry, type Extent, useEntry } from "../../hooks/architect";
import { webAddress } from "../../logic/service";
import { ArchitectFrame } from "./ArchitectFrame";

export function CatalogPage() {
  const { name } = useParams({ from: "/architect/catalog/$name" });
  const entry = useEntry(name);
  return (
    <ArchitectFrame
      title={entry.data?.title ?? name}
      about={entry.data?.summary}
      actions={
        entry.data && (
          <Button component={RowLink} to={`/architect?service=${encodeURIComponent(entry.data.name)}`}>
            Run it
          </Button>
        )
      }
    >
      <Asked query={entry}>{(found) => <Entry entry={found} />}</Asked>
    </ArchitectFrame>
  );
}

function told(value: unknown): string {
  if (typeof value === "boolean") {
    return value ? "yes" : "no";
  }
  if (Array.isArray(value)) {
    return value.map(told).join("; ");
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .map(([key, one]) => `${key} ${told(one)}`)
      .join(", ");
  }
  return String(value);
}

function Block({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper withBorder p="md">
      <Title order={2} size="h4" mb="xs">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

function Entry({ entry }: { entry: CatalogEntry }) {
  const needs = Object.entries(entry.needs);
  return (
    <Stack>
      <Block title="Size">
        <Sizes entry={entry} />
        <Text size="xs" c="dimmed" className="wrapped" mt="xs">
          Source: {entry.source}
        </Text>
      </Block>
      {needs.length > 0 && (
        <Block title="What it needs">
          <Pairs rows={needs.map(([key, value]) => [key, told(value)])} />
        </Block>
      )}
      <Block title="About">
        <Pairs
          rows={[
            ["Name", entry.name],
            ["Also called", entry.aliases.join(", ")],
            ["Category", entry.category],
            ["Keeps", entry.state],
            ["Listens on", entry.ports.map(portText).join(", ")],
          ]}
        />
        <Upstream address={entry.upstream} />
      </Block>
      {entry.recipe && <Recipe recipe={entry.recipe} />}
      {entry.notes.length > 0 && (
        <Block title="Worth knowing">
          <List size="sm">
            {entry.notes.map((note) => (
              <List.Item key={note}>{note}</List.Item>
            ))}
          </List>
        </Block>
      )}
    </Stack>
  );
}

function portText(one: CatalogEntry["ports"][number]): string {
  return `${one.port}/${one.protocol ?? "tcp"}${one.what ? ` (${one.what})` : ""}`;
}

function Upstream({ address }: { address: string }) {
  const link = webAddress(address);
  return link === undefined ? (
    <Text size="sm">{address}</Text>
  ) : (
    <Anchor href={link} target="_blank" rel="noopener noreferrer" size="sm" className="wrapped">
      {link}
    </Anchor>
  );
}

function Sizes({ entry }: { entry: CatalogEntry }) {
  const rows: [string, Extent][] = [
    ["Least", entry.size.minimum],
    ["Usual", entry.size.usual],
  ];
  return (
    <WideTable label="Size" head={["Which", "Processors", "Memory", "Disk"]} minWidth={300}>
      {rows.map(([title, size]) => (
        <Table.Tr key={title}>
          <Table.Th scope="row">{title}</Table.Th>
          <Table.Td>{size.cores}</Table.Td>
          <Table.Td>{size.memory}</Table.Td>
          <Table.Td>{size.disk}</Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Recipe({ recipe }: { recipe: NonNullable<CatalogEntry["recipe"]> }) {
  const { probe } = recipe;
  return (
    <Block title="How it is installed">
      <Pairs
        rows={[
          ["In", recipe.os.join(", ")],
          ["Packages", recipe.packages.join(", ")],
          ["Units", recipe.services.join(", ")],
          ["Works when it answers", probe.port === undefined ? probe.type : `${probe.type}, port ${probe.port}`],
        ]}
      />
    </Block>
  );
}

function Pairs({ rows }: { rows: readonly (readonly [string, string])[] }) {
  return (
    <Table>
      <Table.Tbody>
        {rows
          .filter(([, value]) => value !== "")
          .map(([key, value]) => (
            <Table.Tr key={key}>
              <Table.Th scope="row" w="10rem">
                {key}
              </Table.Th>
              <Table.Td className="wrapped">{value}</Table.Td>
            </Table.Tr>
          ))}
      </Table.Tbody>
    </Table>
  );
}
