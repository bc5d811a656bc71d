/** Facts by name, in a frame with a heading. */
import { Box, Paper, Stack, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";

export function Facts({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper component="section" withBorder p="md" miw={0}>
      <Title order={2} size="h4" mb="sm">
        {title}
      </Title>
      <Stack component="dl" gap={8} m={0}>
        {children}
      </Stack>
    </Paper>
  );
}

export function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <Box style={{ display: "grid", gridTemplateColumns: "minmax(96px, 30%) 1fr", gap: 12 }}>
      <Text component="dt" size="sm" c="dimmed">
        {label}
      </Text>
      <Box component="dd" m={0} miw={0} fz="sm">
        {children}
      </Box>
    </Box>
  );
}
