/** What is around a console of either sort: its buttons, full screen, what is told of the connection, the way out. */
import { Box, Button, Group, Text, VisuallyHidden } from "@mantine/core";
import { useFullscreenElement } from "@mantine/hooks";
import { IconMaximize, IconMinimize } from "@tabler/icons-react";
import { type KeyboardEvent, type ReactNode, useEffect, useId, useLayoutEffect, useRef } from "react";
import classes from "./Console.module.css";
import type { LineState } from "./useTerminalLine";

interface Props {
  label: string;
  state: LineState;
  onConnect: () => void;
  /** Another one says that the guest was started anew. */
  boot: number | undefined;
  tools: ReactNode;
  children: ReactNode;
}

export function ConsoleFrame({ label, state, onConnect, boot, tools, children }: Props) {
  const { ref, toggle, fullscreen } = useFullscreenElement<HTMLDivElement>();
  const bar = useRef<HTMLDivElement>(null);
  const place = useRef<HTMLDivElement>(null);
  const hint = useId();

  // What stands above it differs by guest and width; it gets the rest of the window.
  useLayoutEffect(() => {
    const top = (place.current?.getBoundingClientRect().top ?? 0) + window.scrollY;
    place.current?.style.setProperty("--console-top", `${top}px`);
  });

  const known = useRef(boot);
  const ended = state.kind === "closed";
  useEffect(() => {
    const anew = boot !== undefined && known.current !== undefined && boot !== known.current;
    known.current = boot ?? known.current;
    if (anew && ended) {
      onConnect();
    }
  }, [boot, ended, onConnect]);

  // A console takes every key, Tab too: this one leads out of it.
  function leave(event: KeyboardEvent): void {
    if (event.key === "F6" && event.ctrlKey) {
      event.preventDefault();
      event.stopPropagation();
      bar.current?.querySelector("button")?.focus();
    }
  }

  return (
    <Box component="section" ref={ref} className={classes.console} aria-label={label} aria-describedby={hint}>
      <Group ref={bar} gap="xs" role="toolbar" aria-label={`${label}: keys and clipboard`}>
        {tools}
        {document.fullscreenEnabled && (
          <Button
            variant="default"
            size="xs"
            leftSection={fullscreen ? <IconMinimize size={14} /> : <IconMaximize size={14} />}
            onClick={() => void toggle()}
          >
            {fullscreen ? "Leave full screen" : "Full screen"}
          </Button>
        )}
        <Text id={hint} size="xs" c="dimmed" visibleFrom="sm">
          Ctrl+F6 leads out of the console.
        </Text>
      </Group>
      <div ref={place} className={classes.place} onKeyDownCapture={leave}>
        {children}
        <Note state={state} onConnect={onConnect} />
      </div>
    </Box>
  );
}

function Note({ state, onConnect }: { state: LineState; onConnect: () => void }) {
  if (state.kind === "open") {
    return <VisuallyHidden role="status">Connected</VisuallyHidden>;
  }
  return (
    <Group className={classes.note} role="status" justify="space-between">
      <Text size="sm">{state.kind === "connecting" ? "Connecting" : whyClosed(state)}</Text>
      {state.kind === "closed" && (
        <Button size="xs" onClick={onConnect}>
          Connect again
        </Button>
      )}
    </Group>
  );
}

function whyClosed({ reason, again }: { reason: string; again: boolean }): string {
  const said = reason === "" ? "The connection has ended." : `The connection has ended: ${reason}`;
  return again ? `${said} Trying again.` : said;
}
