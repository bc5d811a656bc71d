/** What a guest does, in one word, and how that looks. */

export interface StateTold {
  readonly status?: string | undefined;
  readonly qmpstatus?: string | undefined;
  readonly lock?: string | undefined;
  readonly template?: number | undefined;
}

// What QEMU calls a VM that is paused since its memory was saved, and what it is to its user.
const PAUSED: Readonly<Record<string, string>> = { postmigrate: "paused", "finish-migrate": "paused" };

/** `running`, `paused`, `suspended`, `stopped`, `template`, or what QEMU stumbled over, such as `io-error`. */
export function stateOf({ status, qmpstatus, lock, template }: StateTold): string {
  if (status === "running") {
    if (lock === "suspended") {
      return "paused";
    }
    const told = qmpstatus ?? status;
    return PAUSED[told] ?? told;
  }
  if (lock === "suspended") {
    return "suspended";
  }
  return template ? "template" : (status ?? "unknown");
}

export function colorOf(state: string): string {
  if (state === "running") {
    return "green";
  }
  if (state === "paused" || state === "suspended") {
    return "yellow";
  }
  return state === "stopped" || state === "template" || state === "unknown" ? "gray" : "red";
}
