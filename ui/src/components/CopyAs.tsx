/** An action as a command and as a call, to be copied. */
import { ActionIcon, Button, Code, CopyButton, Group, Popover, Stack, Text } from "@mantine/core";
import { IconCheck, IconCode, IconCopy } from "@tabler/icons-react";
import { type Action, commandOf, curlOf } from "../logic/actions";

interface CopiedProps {
  label: string;
  text: string;
  /** Escape closes what this stands in, and not the dialog around that with what was typed there. */
  afloat?: boolean;
}

/** A text with a button that copies it. */
export function Copied({ label, text, afloat = false }: CopiedProps) {
  return (
    <div>
      <Group justify="space-between" mb={4} wrap="nowrap">
        <Text size="sm" fw={600}>
          {label}
        </Text>
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button
              variant="default"
              size="compact-sm"
              onClick={copy}
              aria-label={`Copy ${label}`}
              data-mantine-stop-propagation={afloat}
              leftSection={copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
            >
              <span role="status">{copied ? "Copied" : "Copy"}</span>
            </Button>
          )}
        </CopyButton>
      </Group>
      <Code block className="wrapped">
        {text}
      </Code>
    </div>
  );
}

/** The two texts themselves, for a place that shows them at once. */
export function CopyTexts({ action, afloat = false }: { action: Action; afloat?: boolean }) {
  return (
    <Stack gap="sm">
      <Copied label="Command" text={commandOf(action)} afloat={afloat} />
      <Copied label="API call" text={curlOf(action, location.origin)} afloat={afloat} />
    </Stack>
  );
}

/** A small button that shows them. */
export function CopyAs({ action, size = 36 }: { action: Action; size?: number }) {
  return (
    <Popover width="min(480px, 92vw)" withArrow trapFocus returnFocus withinPortal shadow="md">
      <Popover.Target>
        <ActionIcon variant="default" size={size} aria-label={`Copy as command or API call: ${action.title}`}>
          <IconCode size={16} />
        </ActionIcon>
      </Popover.Target>
      <Popover.Dropdown aria-label={`${action.title}, as a command and as an API call`}>
        <CopyTexts action={action} afloat />
      </Popover.Dropdown>
    </Popover>
  );
}
