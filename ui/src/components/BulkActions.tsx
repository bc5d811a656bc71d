/** What can be done with the chosen guests at once. */
import { Button, Group, Paper, Text } from "@mantine/core";
import type { GuestRow } from "../hooks/resources";
import { startMany, stopMany } from "../logic/guestRows";
import { ActionButton } from "./ActionButton";

export function BulkActions({ rows, onClear }: { rows: readonly GuestRow[]; onClear: () => void }) {
  if (rows.length === 0) {
    return null;
  }
  const actions = [startMany(rows), stopMany(rows, false), stopMany(rows, true)];
  return (
    <Paper withBorder p="xs" mb="xs" role="group" aria-label="Chosen guests">
      <Group gap="xs">
        <Text size="sm" fw={600} role="status">
          {rows.length} chosen
        </Text>
        {actions.map((action) => action && <ActionButton key={action.title} action={action} size="xs" />)}
        <Button size="xs" variant="subtle" onClick={onClear}>
          Choose none
        </Button>
      </Group>
    </Paper>
  );
}
