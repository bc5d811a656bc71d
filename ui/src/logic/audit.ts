/** What the audit log says, in words. */

export type AuditEvent = "write" | "login" | "console" | "read";

export interface AuditFilter {
  /** A user with all their tokens, or one token; empty for everybody. */
  readonly user: string;
  /** A part of the path. */
  readonly path: string;
  readonly event?: AuditEvent | undefined;
  readonly failed: boolean;
}

export const EVENTS: Readonly<Record<AuditEvent, string>> = {
  write: "Change",
  login: "Login",
  console: "Console",
  read: "File read",
};

const OPENED = 101;
const REFUSED: readonly number[] = [401, 403];

export type Outcome = "done" | "refused" | "failed";

/** What became of a call, by the HTTP status of its answer; 0 is a call that the end of the daemon interrupted. */
export function outcomeOf(status: number): Outcome {
  if (status === OPENED || (status >= 200 && status < 400)) {
    return "done";
  }
  return REFUSED.includes(status) ? "refused" : "failed";
}

/** Parameters as one line. */
export function asLine(parameters: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(parameters ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}
