/** The services that the architect knows, found by words. */
import { Anchor, Badge, Button, Group, Paper, Select, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { type CatalogRow, useCatalog } from "../../hooks/architect";

const FIRST = 24;

interface Props {
  words: string;
  category: string | null;
  onWords: (words: string) => void;
  onCategory: (category: string | null) => void;
  onChoose: (name: string) => void;
  onDescribe: () => void;
}

export function CatalogSearch({ words, category, onWords, onCategory, onChoose, onDescribe }: Props) {
  const [asked] = useDebouncedValue(words, 150);
  const found = useCatalog(asked, category ?? undefined);
  const all = useCatalog("");
  const categories = [...new Set(all.data?.map((row) => row.category))].sort();
  return (
    <Stack>
      <Group align="flex-end">
        <TextInput
          label="Search the catalog"
          placeholder="jellyfin, photos, dns ..."
          leftSection={<IconSearch size={16} />}
          flex="1 1 16rem"
          value={words}
          onChange={(event) => onWords(event.currentTarget.value)}
        />
        <Select
          label="Category"
          placeholder="All"
          clearable
          searchable
          data={categories}
          value={category}
          onChange={onCategory}
        />
        <Button variant="default" onClick={onDescribe}>
          Describe a service
        </Button>
      </Group>
      <Asked query={found}>{(rows) => <Found rows={rows} onChoose={onChoose} key={`${asked} ${category}`} />}</Asked>
    </Stack>
  );
}

function Found({ rows, onChoose }: { rows: readonly CatalogRow[]; onChoose: (name: string) => void }) {
  const [all, setAll] = useState(false);
  const shown = all ? rows : rows.slice(0, FIRST);
  if (rows.length === 0) {
    return <Empty title="The catalog has nothing of that kind">Describe what it needs instead.</Empty>;
  }
  return (
    <Stack>
      <Text size="sm" role="status">
        {rows.length === 1 ? "1 service" : `${rows.length} services`}
      </Text>
      <SimpleGrid
        component="ul"
        cols={{ base: 1, sm: 2, lg: 3 }}
        spacing="sm"
        p={0}
        m={0}
        style={{ listStyle: "none" }}
      >
        {shown.map((row) => (
          <Card key={row.name} row={row} onChoose={onChoose} />
        ))}
      </SimpleGrid>
      {shown.length < rows.length && (
        <Button variant="default" onClick={() => setAll(true)}>
          Show all {rows.length}
        </Button>
      )}
    </Stack>
  );
}

function Card({ row, onChoose }: { row: CatalogRow; onChoose: (name: string) => void }) {
  return (
    <Paper component="li" withBorder p="sm">
      <Stack gap={6} h="100%" justify="space-between">
        <div>
          <Group gap="xs" justify="space-between">
            <Anchor component={Link} to={`/architect/catalog/${row.name}`} fw={600}>
              {row.title}
            </Anchor>
            <Badge variant="default" tt="none">
              {row.category}
            </Badge>
          </Group>
          <Text size="sm" c="dimmed">
            {row.summary}
          </Text>
        </div>
        <Group gap="xs" justify="space-between">
          <Text size="sm">{row.installs ? "Installs by itself" : "You install it"}</Text>
          <Button size="compact-sm" onClick={() => onChoose(row.name)} aria-label={`Run ${row.title}`}>
            Run
          </Button>
        </Group>
      </Stack>
    </Paper>
  );
}
