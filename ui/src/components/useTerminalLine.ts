/** Joins a terminal to a guest's, and joins it again when the connection breaks. */
import type { Terminal as Xterm } from "@xterm/xterm";
import { useCallback, useEffect, useRef, useState } from "react";
import { type GuestPlace, TerminalConnection } from "../api/consoles";
import type { SerialPort } from "../logic/displays";
import { OutputGate } from "../logic/outputGate";

export type LineState =
  | { readonly kind: "connecting" }
  | { readonly kind: "open" }
  /** `again`: another attempt is made by itself. */
  | { readonly kind: "closed"; readonly reason: string; readonly again: boolean };

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 10_000;
const MOST_WAITING = 8 * 1024 * 1024;

/** Where keys are drawn on the screen, focus brings them up over half of it. */
export function mayTakeFocus(): boolean {
  return !matchMedia("(pointer: coarse)").matches;
}

export interface Line {
  readonly state: LineState;
  readonly connect: () => void;
}

interface Options {
  readonly serial: SerialPort | undefined;
  /** What becomes of what is typed before it is sent. */
  readonly typed: (text: string) => string;
}

export function useTerminalLine(
  terminal: Xterm | undefined,
  { node, type, vmid }: GuestPlace,
  { serial, typed }: Options,
): Line {
  const changed = useRef(typed);
  changed.current = typed;
  const [state, setState] = useState<LineState>({ kind: "connecting" });
  const [round, setRound] = useState(0);
  const connect = useCallback(() => setRound((before) => before + 1), []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round connects anew
  useEffect(() => {
    if (terminal === undefined) {
      return;
    }
    let pause = FIRST_PAUSE;
    let waiting: ReturnType<typeof setTimeout> | undefined;
    let line: TerminalConnection;
    let first = true;
    const gate = new OutputGate(MOST_WAITING, (data, done) => terminal.write(data, done));

    function join(to: Xterm): void {
      setState({ kind: "connecting" });
      line = new TerminalConnection(
        {
          opened: () => {
            pause = FIRST_PAUSE;
            setState({ kind: "open" });
            if (first && mayTakeFocus()) {
              to.focus();
            }
            first = false;
          },
          shown: (data) => gate.take(data),
          closed: ({ clean, reason }) => {
            setState({ kind: "closed", reason, again: !clean });
            if (!clean) {
              waiting = setTimeout(join, pause, to);
              pause = Math.min(2 * pause, LONGEST_PAUSE);
            }
          },
        },
        { columns: to.cols, rows: to.rows },
      );
      void line.open({ node, type, vmid }, serial);
    }

    join(terminal);
    const listeners = [
      terminal.onData((text) => line.type(changed.current(text))),
      terminal.onResize(({ cols, rows }) => line.resize(cols, rows)),
    ];
    return () => {
      clearTimeout(waiting);
      for (const listener of listeners) {
        listener.dispose();
      }
      line.close();
    };
  }, [terminal, node, type, vmid, serial, round]);

  return { state, connect };
}
