/** Several actions behind one button. Those that ask, ask when they are chosen. */
import { ActionIcon, Button, type ButtonProps, Menu, Stack, Title } from "@mantine/core";
import { IconChevronDown, IconCode, IconDots } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";
import { type Done, tellFailure, useAct } from "../hooks/actions";
import { useLacking } from "../hooks/rights";
import { type Action, asked } from "../logic/actions";
import type { Wanted } from "../logic/rights";
import { ConfirmAction } from "./ConfirmAction";
import { CopyTexts } from "./CopyAs";
import { Denied } from "./Denied";
import { FocusedModal } from "./FocusedModal";

export interface MenuEntry {
  readonly label: string;
  /** What is done, or what is opened. */
  readonly action?: Action;
  readonly open?: () => void;
  /** The call that what is opened ends with: without the right to it, it is not opened. */
  readonly needs?: Wanted;
  readonly icon?: ReactNode;
  readonly onDone?: (done: Done) => void;
}

function lacksOf(lacking: (wanted: Wanted) => string | undefined, entry: MenuEntry): string | undefined {
  const wanted = entry.action ?? entry.needs;
  return wanted && lacking(wanted);
}

interface Props {
  /** What the menu is for: `More for web`. */
  label: string;
  entries: readonly MenuEntry[];
  /** What the button says, where it is more than three dots: the label's first words. */
  text?: string;
  icon?: ReactNode;
  size?: ButtonProps["size"];
}

export function ActionMenu({ label, entries, text, icon, size = "sm" }: Props) {
  const act = useAct();
  const lacking = useLacking();
  const [chosen, setChosen] = useState<MenuEntry>();
  const [asking, setAsking] = useState(false);
  const [copying, setCopying] = useState(false);
  const actions = entries.flatMap((entry) => (entry.action === undefined ? [] : [entry.action]));
  async function choose(entry: MenuEntry): Promise<void> {
    entry.open?.();
    if (entry.action === undefined) {
      return;
    }
    if (asked(entry.action)) {
      setChosen(entry);
      setAsking(true);
      return;
    }
    try {
      const done = await act(entry.action);
      entry.onDone?.(done);
    } catch (error) {
      tellFailure(entry.action.title, error);
    }
  }
  return (
    <>
      <Menu position="bottom-end" withinPortal>
        <Menu.Target>
          {text === undefined ? (
            <ActionIcon variant="default" size={30} aria-label={label}>
              <IconDots size={16} />
            </ActionIcon>
          ) : (
            <Button
              variant="default"
              size={size}
              aria-label={label}
              leftSection={icon}
              rightSection={<IconChevronDown size={16} />}
            >
              {text}
            </Button>
          )}
        </Menu.Target>
        <Menu.Dropdown>
          {entries.map((entry) => (
            <Denied key={entry.label} lacks={lacksOf(lacking, entry)}>
              <Menu.Item
                leftSection={entry.icon}
                {...(entry.action?.danger && { color: "red" })}
                onClick={() => void choose(entry)}
              >
                {entry.label}
              </Menu.Item>
            </Denied>
          ))}
          {actions.length > 0 && (
            <>
              <Menu.Divider />
              <Menu.Item leftSection={<IconCode size={14} />} onClick={() => setCopying(true)}>
                Copy as command or API call
              </Menu.Item>
            </>
          )}
        </Menu.Dropdown>
      </Menu>
      <FocusedModal opened={copying} onClose={() => setCopying(false)} title={label} size="lg">
        <Copies actions={actions} />
      </FocusedModal>
      {chosen?.action !== undefined && (
        <ConfirmAction action={chosen.action} opened={asking} onClose={() => setAsking(false)} onDone={chosen.onDone} />
      )}
    </>
  );
}

function Copies({ actions }: { actions: readonly Action[] }) {
  return (
    <Stack gap="xl">
      {actions.map((action) => (
        <Stack key={action.title} component="section" gap="xs" aria-label={action.title}>
          <Title order={3} size="h5">
            {action.title}
          </Title>
          <CopyTexts action={action} />
        </Stack>
      ))}
    </Stack>
  );
}
