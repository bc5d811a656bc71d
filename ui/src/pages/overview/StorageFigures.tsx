/** How full each storage is. */
import { Anchor, Paper, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { RowLink } from "../../components/RowLink";
import { UseBar } from "../../components/UseBar";
import { useStorages } from "../../hooks/resources";
import { bytes, share } from "../../logic/units";

export function StorageFigures() {
  const storages = useStorages().data;
  if (storages === undefined || storages.length === 0) {
    return null;
  }
  return (
    <section aria-labelledby="storages">
      <Title order={2} size="h4" id="storages" mb="xs">
        Storage
      </Title>
      <SimpleGrid cols={{ base: 1, xs: 2, lg: 4 }} spacing="sm">
        {storages.map(({ id, storage, status, plugintype, disk, maxdisk }) => {
          const usable = status === "available";
          const words = usable ? `${bytes(disk)} of ${bytes(maxdisk)}` : "not available";
          return (
            <Paper key={id} withBorder p="sm">
              <Stack gap={4}>
                <UseBar label={storage} part={usable ? share(disk, maxdisk) : 0} words={words} />
                <Text size="xs" c="dimmed">
                  {plugintype} ·{" "}
                  <Anchor component={RowLink} to={`/storage/${encodeURIComponent(storage)}`} inherit>
                    See what is on {storage}
                  </Anchor>
                </Text>
              </Stack>
            </Paper>
          );
        })}
      </SimpleGrid>
    </section>
  );
}
