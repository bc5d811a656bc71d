import { Stack, Title } from "@mantine/core";

export function BackupsPage() {
  return (
    <Stack>
      <Title order={1}>Backups</Title>
    </Stack>
  );
}
