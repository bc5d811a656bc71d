/** A service of the catalog: what it needs, how large it is, where it listens, where all that is from. */
import { Button, List, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { useParams } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { Asked } from "../../components/Asked";
import { FormDialog } from "../../components/FormDialog";
import { RowLink } from "../../components/RowLink";
import { WideTable } from "../../components/WideTable";
import { type CatalogEntry, type Extent, useEntry } from "../../hooks/architect";
import { useGuests } from "../../hooks/resources";
import { ArchitectFrame } from "./ArchitectFrame";
import { FollowedTask } from "./FollowedTask";
import { Upstream } from "./Upstream";

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
        {entry.upstream && <Upstream address={entry.upstream} />}
      </Block>
      {entry.recipe && <Recipe entry={entry} recipe={entry.recipe} />}
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

interface RecipeProps {
  entry: CatalogEntry;
  recipe: NonNullable<CatalogEntry["recipe"]>;
}

function Recipe({ entry, recipe }: RecipeProps) {
  const { probe } = recipe;
  return (
    <Block title="How it is installed">
      <Pairs
        rows={[
          ["In", recipe.os.join(", ")],
          ["Packages", recipe.packages.join(", ")],
          ["Units", recipe.services.join(", ")],
          ["Works when it answers", typeof probe.port !== "number" ? probe.type : `${probe.type}, port ${probe.port}`],
        ]}
      />
      <Install entry={entry} />
    </Block>
  );
}

/** In a guest that is there already. */
function Install({ entry }: { entry: CatalogEntry }) {
  const running = (useGuests().data ?? []).filter((row) => row.status === "running");
  const [task, setTask] = useState<string>();
  const title = `Install ${entry.title} in a guest`;
  return (
    <Stack align="flex-start" mt="sm">
      <FormDialog
        label="Install in a guest that runs"
        title={title}
        operation={{ method: "POST", path: "/architect/install" }}
        fields={[
          {
            name: "guest",
            options: running.map(({ vmid, name = "" }) => ({ value: `${vmid}`, label: `${vmid} ${name}` })),
          },
        ]}
        action={({ guest = "" }) => ({
          title,
          method: "POST",
          path: "/architect/install",
          parameters: { guest, service: entry.name },
        })}
        submit="Install"
        onDone={(done) => setTask(done.task?.upid)}
      />
      {task !== undefined && <FollowedTask upid={task} title={`Installing ${entry.title}`} />}
    </Stack>
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
