/** Joins an element to a VM's screen, and joins it again when the connection breaks. */
import RFB from "@novnc/novnc";
import { type RefObject, useCallback, useEffect, useState } from "react";
import { screenUrl } from "../api/consoles";
import { ApiError, told } from "../api/errors";
import { type LineState, mayTakeFocus } from "./useTerminalLine";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 10_000;

interface Screen {
  readonly rfb: RFB | undefined;
  readonly state: LineState;
  readonly connect: () => void;
  /** What the guest put into its clipboard last. */
  readonly copied: string;
}

interface Place {
  readonly node: string;
  readonly vmid: number;
}

export function useRfb(place: RefObject<HTMLDivElement | null>, { node, vmid }: Place): Screen {
  const [rfb, setRfb] = useState<RFB>();
  const [state, setState] = useState<LineState>({ kind: "connecting" });
  const [copied, setCopied] = useState("");
  const [round, setRound] = useState(0);
  const connect = useCallback(() => setRound((before) => before + 1), []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round connects anew
  useEffect(() => {
    let over = false;
    let made: RFB | undefined;
    let waiting: ReturnType<typeof setTimeout> | undefined;
    let pause = FIRST_PAUSE;
    let first = true;

    function closed(clean: boolean, reason: string): void {
      setRfb(undefined);
      setState({ kind: "closed", reason, again: !clean });
      if (!clean) {
        waiting = setTimeout(() => void join(), pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
    }

    function attach(element: HTMLElement, url: string): void {
      const socket = new WebSocket(url, "binary");
      let ending = 0; // noVNC calls every end of an open connection clean
      socket.addEventListener("close", ({ code }) => {
        ending = code;
      });
      const screen = new RFB(element, socket, { shared: true });
      made = screen;
      screen.scaleViewport = true;
      let refused = "";
      screen.addEventListener("connect", () => {
        pause = FIRST_PAUSE;
        setRfb(screen);
        setState({ kind: "open" });
        if (first && mayTakeFocus()) {
          screen.focus({ preventScroll: true });
        }
        first = false;
      });
      screen.addEventListener("clipboard", ({ detail }) => setCopied(detail.text));
      screen.addEventListener("securityfailure", ({ detail }) => {
        refused = detail.reason ?? "refused";
      });
      screen.addEventListener("disconnect", () => {
        if (!over) {
          closed(ending === 1000 || refused !== "", refused);
        }
      });
    }

    async function join(): Promise<void> {
      setState({ kind: "connecting" });
      try {
        const url = await screenUrl({ node, type: "qemu", vmid });
        if (!over && place.current !== null) {
          attach(place.current, url);
        }
      } catch (error) {
        if (!over) {
          closed(error instanceof ApiError, told(error));
        }
      }
    }

    void join();
    return () => {
      over = true;
      clearTimeout(waiting);
      made?.disconnect();
      setRfb(undefined);
    };
  }, [place, node, vmid, round]);

  return { rfb, state, connect, copied };
}
