/**
 * Something to press that the caller may not: it stays where it is, does nothing, and says what is lacking to whoever
 * comes by pointer or by keyboard.
 */
import { Tooltip } from "@mantine/core";
import { cloneElement, type MouseEvent, type ReactElement } from "react";
import { useLacking } from "../hooks/rights";
import type { Wanted } from "../logic/rights";

/** The same for what leads to a call, such as a button that opens a dialog. */
export function Needing({ wanted, children }: { wanted: Wanted; children: Props["children"] }) {
  return <Denied lacks={useLacking()(wanted)}>{children}</Denied>;
}

interface Props {
  /** What is lacking; undefined when nothing is. */
  lacks: string | undefined;
  children: ReactElement<Record<string, unknown>>;
}

function nothing(event: MouseEvent): void {
  event.preventDefault();
  event.stopPropagation();
}

export function Denied({ lacks, children }: Props) {
  if (lacks === undefined) {
    return children;
  }
  const shut = cloneElement(children, { "data-disabled": true, "aria-disabled": true, onClick: nothing });
  return (
    <Tooltip label={`Needs ${lacks}`} events={{ hover: true, focus: true, touch: true }} withinPortal>
      {shut}
    </Tooltip>
  );
}
