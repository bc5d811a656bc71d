/** An xterm in an element, that fills it and follows its size. */
import { FitAddon } from "@xterm/addon-fit";
import { type ITheme, Terminal as Xterm } from "@xterm/xterm";
import { type RefObject, useEffect, useState } from "react";
import { allowStyles } from "./xtermStyles";

allowStyles();

const THEME: ITheme = {
  background: "#101113",
  foreground: "#e9ecef",
  cursor: "#e9ecef",
  cursorAccent: "#101113",
  selectionBackground: "#3b5b8a",
};

/** The terminal, once its place is in the document. */
export function useXterm(place: RefObject<HTMLDivElement | null>, label: string): Xterm | undefined {
  const [terminal, setTerminal] = useState<Xterm>();
  useEffect(() => {
    const element = place.current;
    if (element === null) {
      return;
    }
    const made = new Xterm({
      theme: THEME,
      fontFamily: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace",
      fontSize: matchMedia("(max-width: 48em)").matches ? 12 : 14,
      scrollback: 5_000,
      minimumContrastRatio: 4.5,
      screenReaderMode: true,
      macOptionIsMeta: true,
    });
    const fit = new FitAddon();
    made.loadAddon(fit);
    made.open(element);
    made.textarea?.setAttribute("aria-label", label);
    const watcher = new ResizeObserver(() => fit.fit());
    watcher.observe(element);
    setTerminal(made);
    return () => {
      watcher.disconnect();
      made.dispose();
      setTerminal(undefined);
    };
  }, [place, label]);
  return terminal;
}
