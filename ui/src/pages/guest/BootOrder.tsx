/** What a VM boots from, in order. */
import { ActionIcon, Checkbox, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import type { PendingRow } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { type BootEntry, bootEntries, bootText, moved, toggled } from "../../logic/bootOrder";
import { nameOf } from "../../logic/guestActions";
import { change } from "../../logic/guestConfig";

export function BootOrder({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const known = bootEntries(rows);
  const [draft, setDraft] = useState<readonly BootEntry[]>();
  const entries = draft ?? known;
  const save = change(guest, { title: `Set the boot order of ${nameOf(guest)}`, values: { boot: bootText(entries) } });
  return (
    <section aria-labelledby="boot-order">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="boot-order">
          Boot order
        </Title>
        {draft?.some((entry) => entry.on) && (
          <ActionButton action={save} size="compact-md" onDone={() => setDraft(undefined)}>
            Save
          </ActionButton>
        )}
      </Group>
      {draft?.every((entry) => !entry.on) && (
        <Text size="sm" role="status" mb="xs">
          It needs one at least to boot from.
        </Text>
      )}
      {entries.length === 0 && <Text size="sm">It has nothing to boot from.</Text>}
      <Stack component="ol" gap={6} p={0} m={0} style={{ listStyle: "none" }}>
        {entries.map((entry, index) => (
          <Paper component="li" key={entry.key} withBorder p={6}>
            <Group justify="space-between" wrap="nowrap" gap="xs">
              <Checkbox
                label={entry.key}
                description={entry.text}
                checked={entry.on}
                onChange={() => setDraft(toggled(entries, entry.key))}
                styles={{ description: { overflowWrap: "anywhere" } }}
              />
              <Group gap={4} wrap="nowrap">
                <ActionIcon
                  variant="default"
                  size={30}
                  aria-label={`Move ${entry.key} up`}
                  disabled={index === 0}
                  onClick={() => setDraft(moved(entries, index, -1))}
                >
                  <IconArrowUp size={16} />
                </ActionIcon>
                <ActionIcon
                  variant="default"
                  size={30}
                  aria-label={`Move ${entry.key} down`}
                  disabled={index === entries.length - 1}
                  onClick={() => setDraft(moved(entries, index, 1))}
                >
                  <IconArrowDown size={16} />
                </ActionIcon>
              </Group>
            </Group>
          </Paper>
        ))}
      </Stack>
    </section>
  );
}
