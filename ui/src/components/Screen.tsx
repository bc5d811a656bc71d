/** A VM's screen by noVNC. Heavy: loaded lazily. */

import { Button, Menu, Switch } from "@mantine/core";
import type RFB from "@novnc/novnc";
import { IconKeyboard } from "@tabler/icons-react";
import { useEffect, useRef, useState } from "react";
import { keysFor } from "../logic/typing";
import { CopyTextButton, PasteButton } from "./ClipboardTools";
import classes from "./Console.module.css";
import { ConsoleFrame } from "./ConsoleFrame";
import { useRfb } from "./useRfb";

interface Props {
  guest: { readonly node: string; readonly vmid: number };
  label: string;
  /** See ConsoleFrame. */
  boot: number | undefined;
  /** Whether the guest's clipboard is joined to VNC's. */
  clipboard: boolean;
}

export function Screen({ guest, label, boot, clipboard }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const { rfb, state, connect, copied } = useRfb(place, guest);
  const [fitted, setFitted] = useState(true);

  useEffect(() => {
    if (rfb !== undefined) {
      rfb.scaleViewport = fitted;
      rfb.clipViewport = !fitted;
      rfb.dragViewport = !fitted && matchMedia("(pointer: coarse)").matches;
    }
  }, [rfb, fitted]);

  return (
    <ConsoleFrame
      label={label}
      state={state}
      onConnect={connect}
      boot={boot}
      tools={
        <>
          <KeysMenu rfb={rfb} />
          <PasteButton
            label="Type text"
            help="Is typed key by key, as on a US keyboard."
            onText={(text) => {
              typeText(rfb, text);
              rfb?.focus();
            }}
          />
          {clipboard && <Clipboard rfb={rfb} copied={copied} />}
          <Switch
            label="Fit the window"
            size="sm"
            checked={fitted}
            onChange={(event) => setFitted(event.currentTarget.checked)}
          />
        </>
      }
    >
      <div ref={place} className={classes.screen} />
    </ConsoleFrame>
  );
}

function Clipboard({ rfb, copied }: { rfb: RFB | undefined; copied: string }) {
  return (
    <>
      <PasteButton
        label="Fill its clipboard"
        help="Can be pasted in the guest then."
        onText={(text) => {
          rfb?.clipboardPasteFrom(text);
          rfb?.focus();
        }}
      />
      <CopyTextButton label="Copy its clipboard" text={() => copied} nothing="It is empty" />
    </>
  );
}

const SHIFT = [0xffe1, "ShiftLeft"] as const;
const CONTROL = [0xffe3, "ControlLeft"] as const;
const ALT = [0xffe9, "AltLeft"] as const;
const META = [0xffeb, "MetaLeft"] as const;

type Press = readonly [keysym: number, code: string | null];

/** Press keys together: down in order, up in reverse. */
function chord(rfb: RFB | undefined, keys: readonly Press[]): void {
  for (const [keysym, code] of keys) {
    rfb?.sendKey(keysym, code, true);
  }
  for (const [keysym, code] of [...keys].reverse()) {
    rfb?.sendKey(keysym, code, false);
  }
}

function typeText(rfb: RFB | undefined, text: string): void {
  for (const { keysym, code, shift } of keysFor(text)) {
    const key: Press = [keysym, code ?? null];
    chord(rfb, shift ? [SHIFT, key] : [key]);
  }
}

const functionKey = (number: number): Press => [0xffbd + number, `F${number}`];

const CHORDS: readonly (readonly [string, readonly Press[]])[] = [
  ["Ctrl+Alt+Delete", [CONTROL, ALT, [0xffff, "Delete"]]],
  ...[1, 2, 3, 4, 7].map((number) => [`Ctrl+Alt+F${number}`, [CONTROL, ALT, functionKey(number)]] as const),
  ["Ctrl+C", [CONTROL, [0x63, "KeyC"]]],
  ["Alt+Tab", [ALT, [0xff09, "Tab"]]],
  ["Windows", [META]],
  ["Print screen", [[0xff61, "PrintScreen"]]],
  ["Enter", [[0xff0d, "Enter"]]],
  ["Tab", [[0xff09, "Tab"]]],
  ["Escape", [[0xff1b, "Escape"]]],
  ["Up", [[0xff52, "ArrowUp"]]],
  ["Down", [[0xff54, "ArrowDown"]]],
];

function KeysMenu({ rfb }: { rfb: RFB | undefined }) {
  const [sent, setSent] = useState(false);
  function send(keys: readonly Press[]): void {
    setSent(true);
    chord(rfb, keys);
    rfb?.focus();
  }
  return (
    <Menu withinPortal={false} position="bottom-start" returnFocus={!sent} onOpen={() => setSent(false)}>
      <Menu.Target>
        <Button variant="default" size="xs" leftSection={<IconKeyboard size={14} />} disabled={rfb === undefined}>
          Send keys
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah="60vh" style={{ overflow: "auto" }}>
        {CHORDS.map(([name, keys]) => (
          <Menu.Item key={name} onClick={() => send(keys)}>
            {name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
