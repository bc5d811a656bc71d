/** A guest's terminal: a CT's, or a serial port of a VM. Heavy: loaded lazily. */
import "@xterm/xterm/css/xterm.css";
import { Button, Group } from "@mantine/core";
import { useRef, useState } from "react";
import type { GuestPlace } from "../api/consoles";
import type { SerialPort } from "../logic/displays";
import { withControl } from "../logic/terminalFrames";
import { CopyTextButton, PasteButton } from "./ClipboardTools";
import classes from "./Console.module.css";
import { ConsoleFrame } from "./ConsoleFrame";
import { useTerminalLine } from "./useTerminalLine";
import { useXterm } from "./useXterm";

interface Props {
  guest: GuestPlace;
  /** Of a VM; without one its first. */
  serial?: SerialPort | undefined;
  label: string;
  /** See ConsoleFrame. */
  boot: number | undefined;
}

export function Terminal({ guest, serial, label, boot }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const terminal = useXterm(place, label);
  const control = useStickyControl();
  const { state, connect } = useTerminalLine(terminal, guest, { serial, typed: control.typed });

  function press(sequence: string): void {
    terminal?.input(sequence);
    terminal?.focus();
  }

  return (
    <ConsoleFrame
      label={label}
      state={state}
      onConnect={connect}
      boot={boot}
      tools={
        <>
          <CopyTextButton label="Copy" text={() => terminal?.getSelection() ?? ""} />
          <PasteButton
            label="Paste"
            help="Goes into the terminal as if it was typed."
            onText={(text) => {
              terminal?.paste(text);
              terminal?.focus();
            }}
          />
          <TouchKeys press={press} control={control} />
        </>
      }
    >
      <div ref={place} className={classes.terminal} />
    </ConsoleFrame>
  );
}

interface StickyControl {
  readonly held: boolean;
  readonly toggle: () => void;
  readonly typed: (text: string) => string;
}

/** Ctrl for keyboards that have none: held for the next character. */
function useStickyControl(): StickyControl {
  const [held, setHeld] = useState(false);
  function typed(text: string): string {
    if (!held) {
      return text;
    }
    setHeld(false);
    return withControl(text);
  }
  return { held, toggle: () => setHeld((before) => !before), typed };
}

const KEYS: readonly (readonly [string, string, string])[] = [
  ["Esc", "Escape", "\x1b"],
  ["Tab", "Tab", "\t"],
  ["↑", "Up", "\x1b[A"],
  ["↓", "Down", "\x1b[B"],
  ["←", "Left", "\x1b[D"],
  ["→", "Right", "\x1b[C"],
];

function TouchKeys({ press, control }: { press: (sequence: string) => void; control: StickyControl }) {
  return (
    <Group gap={4} hiddenFrom="sm">
      <Button
        size="xs"
        px={8}
        variant={control.held ? "filled" : "default"}
        aria-pressed={control.held}
        onClick={control.toggle}
      >
        Ctrl
      </Button>
      {KEYS.map(([label, name, sequence]) => (
        <Button key={name} size="xs" px={8} variant="default" aria-label={name} onClick={() => press(sequence)}>
          {label}
        </Button>
      ))}
    </Group>
  );
}
