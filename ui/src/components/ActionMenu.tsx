/** Several actions behind one button. Those that ask, ask when they are chosen. */
import { ActionIcon, Menu } from "@mantine/core";
import { IconDots } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";
import { type Done, tellFailure, useAct } from "../hooks/actions";
import { type Action, asked } from "../logic/actions";
import { ConfirmAction } from "./ConfirmAction";

export interface MenuEntry {
  readonly label: string;
  /** What is done, or what is opened. */
  readonly action?: Action;
  readonly open?: () => void;
  readonly icon?: ReactNode;
  readonly onDone?: (done: Done) => void;
}

interface Props {
  /** What the menu is for: `More for web`. */
  label: string;
  entries: readonly MenuEntry[];
  /** A button of another look than three dots. */
  target?: ReactNode;
}

export function ActionMenu({ label, entries, target }: Props) {
  const act = useAct();
  const [chosen, setChosen] = useState<MenuEntry>();
  const [asking, setAsking] = useState(false);
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
      entry.onDone?.(await act(entry.action));
    } catch (error) {
      tellFailure(entry.action.title, error);
    }
  }
  return (
    <>
      <Menu position="bottom-end" withinPortal>
        <Menu.Target>
          {target ?? (
            <ActionIcon variant="default" size={30} aria-label={label}>
              <IconDots size={16} />
            </ActionIcon>
          )}
        </Menu.Target>
        <Menu.Dropdown>
          {entries.map((entry) => (
            <Menu.Item
              key={entry.label}
              leftSection={entry.icon}
              {...(entry.action?.danger && { color: "red" })}
              onClick={() => void choose(entry)}
            >
              {entry.label}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      {chosen?.action !== undefined && (
        <ConfirmAction action={chosen.action} opened={asking} onClose={() => setAsking(false)} onDone={chosen.onDone} />
      )}
    </>
  );
}
