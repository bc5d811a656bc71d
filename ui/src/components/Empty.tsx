/** Says that there is nothing, why, and what can be done about it. */
import { Stack, Text } from "@mantine/core";
import type { ReactNode } from "react";

interface Props {
  title: string;
  children?: ReactNode;
}

export function Empty({ title, children }: Props) {
  return (
    <Stack align="center" gap="xs" py="xl" px="md" role="status">
      <Text fw={600} ta="center">
        {title}
      </Text>
      {children}
    </Stack>
  );
}
