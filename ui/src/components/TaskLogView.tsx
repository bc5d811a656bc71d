/** A task's log as it grows; stays at its end while one looks at the end. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import type { LogLine } from "../hooks/tasks";
import classes from "./TaskLogView.module.css";

const LINE_HEIGHT = 18;
const NEAR = 2 * LINE_HEIGHT;

export function TaskLogView({ lines }: { lines: readonly LogLine[] }) {
  const frame = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const seen = useVirtualizer({
    count: lines.length,
    getScrollElement: () => frame.current,
    estimateSize: () => LINE_HEIGHT,
    overscan: 20,
  });
  const count = lines.length;
  useEffect(() => {
    if (following.current && count > 0) {
      seen.scrollToIndex(count - 1, { align: "end" });
    }
  }, [count, seen]);

  function scrolled(): void {
    const element = frame.current;
    if (element !== null) {
      following.current = element.scrollTop + element.clientHeight >= element.scrollHeight - NEAR;
    }
  }

  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <div ref={frame} className={classes.log} role="log" aria-label="Log" tabIndex={0} onScroll={scrolled}>
      <div className={classes.all} style={{ height: seen.getTotalSize() }}>
        {seen.getVirtualItems().map((item) => (
          <div
            key={item.key}
            data-index={item.index}
            ref={seen.measureElement}
            className={classes.line}
            style={{ transform: `translateY(${item.start}px)` }}
          >
            {lines[item.index]?.t}
          </div>
        ))}
      </div>
    </div>
  );
}
