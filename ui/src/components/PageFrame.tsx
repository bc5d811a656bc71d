/** A page's heading, the pages beside it, and its content. */
import { Button, Group, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

export interface Beside {
  readonly label: string;
  readonly to: string;
  /** Whether it is the place itself alone, and not what is below it. */
  readonly exact?: boolean;
}

interface Props {
  title: string;
  /** What the place is about, in a sentence. */
  about?: ReactNode;
  beside?: readonly Beside[];
  /** What `beside` leads through. */
  besideLabel?: string;
  actions?: ReactNode;
  children: ReactNode;
}

export function PageFrame({ title, about, beside = [], besideLabel, actions, children }: Props) {
  return (
    <Stack gap="md">
      {beside.length > 0 && (
        <Group component="nav" gap={4} aria-label={besideLabel}>
          {beside.map((one) => (
            <Button
              key={one.to}
              component={Link}
              to={one.to}
              activeOptions={{ exact: one.exact ?? false, includeSearch: false }}
              activeProps={{ "data-active": true }}
              variant="subtle"
              size="compact-md"
              className="place"
            >
              {one.label}
            </Button>
          ))}
        </Group>
      )}
      <Group justify="space-between" align="flex-start">
        <div>
          <Title order={1}>{title}</Title>
          {about !== undefined && (
            <Text c="dimmed" maw="70ch">
              {about}
            </Text>
          )}
        </div>
        {actions}
      </Group>
      {children}
    </Stack>
  );
}
