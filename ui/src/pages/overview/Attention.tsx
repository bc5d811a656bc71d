/** What needs attention, each with a way to act. */
import { Anchor, Button, Group, Paper, Stack, Text, ThemeIcon, Title } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconInfoCircle } from "@tabler/icons-react";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { RowLink } from "../../components/RowLink";
import { useAttention } from "../../hooks/attention";
import type { Finding } from "../../logic/attention";

const AT_FIRST = 4;

export function Attention() {
  const findings = useAttention();
  const [all, setAll] = useState(false);
  if (findings === undefined) {
    return null;
  }
  const shown = all ? findings : findings.slice(0, AT_FIRST);
  const rest = findings.length - shown.length;
  return (
    <section aria-labelledby="attention">
      <Title order={2} size="h4" id="attention" mb="xs">
        Needs attention
      </Title>
      {findings.length === 0 ? (
        <Group gap="xs">
          <ThemeIcon size={22} radius="xl" variant="light" color="green" aria-hidden>
            <IconCheck size={14} />
          </ThemeIcon>
          <Text size="sm">Nothing needs attention.</Text>
        </Group>
      ) : (
        <Stack gap="xs" role="list">
          {shown.map((finding) => (
            <Item key={finding.id} finding={finding} />
          ))}
        </Stack>
      )}
      {rest > 0 && (
        <Button variant="subtle" size="compact-sm" mt="xs" onClick={() => setAll(true)}>
          Show {rest} more
        </Button>
      )}
    </section>
  );
}

function Item({ finding: { grave, title, detail, action, link } }: { finding: Finding }) {
  const Icon = grave ? IconAlertTriangle : IconInfoCircle;
  return (
    <Paper withBorder p="xs" role="listitem">
      <Group gap="sm" justify="space-between">
        <Group gap="sm" wrap="nowrap" flex="1 1 260px" miw={0} align="flex-start">
          <ThemeIcon size={24} radius="xl" variant="light" color={grave ? "red" : "yellow"} aria-hidden>
            <Icon size={16} />
          </ThemeIcon>
          <div>
            <Text size="sm" fw={600} className="wrapped">
              {title}
            </Text>
            <Text size="sm" c="dimmed" className="wrapped" lineClamp={3}>
              {detail}
            </Text>
          </div>
        </Group>
        <Group gap="sm">
          {link !== undefined && (
            <Anchor component={RowLink} to={link.to} size="sm" py={2}>
              {link.label}
            </Anchor>
          )}
          {action !== undefined && <ActionButton action={action} size="xs" />}
        </Group>
      </Group>
    </Paper>
  );
}
