/** The session: who is logged in, by a cookie that scripts cannot read. A login that has expired is asked for again. */
import { failureOf } from "./errors";

export interface Session {
  readonly username: string;
  /** The CSRF prevention token, needed on every write. */
  readonly csrf: string;
}

export interface Credentials {
  username: string;
  realm: string;
  password: string;
  /** The answer to a second factor, such as `totp:123456`, and the challenge that it belongs to. */
  answer?: { factor: string; challenge: string };
}

export type SessionState =
  | { kind: "asking" }
  | { kind: "out" }
  | { kind: "in"; session: Session }
  /** The login is over, but the page stays as it is until there is a new one. */
  | { kind: "expired"; session: Session };

/** What a login comes to: a session, or the question for a second factor. */
export type LoginOutcome = { session: Session } | { challenge: string; factors: readonly string[] };

const PATH = "/api2/json/bastide/session";
const RENEWED_AFTER = 15 * 60 * 1000;

let state: SessionState = { kind: "asking" };
const listeners = new Set<() => void>();
let waiting: (() => void)[] = [];

export function sessionState(): SessionState {
  return state;
}

export function onSession(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function become(next: SessionState): void {
  state = next;
  if (next.kind === "in") {
    const resumed = waiting;
    waiting = [];
    for (const resume of resumed) {
      resume();
    }
  }
  for (const listener of listeners) {
    listener();
  }
}

/** The token for writes; empty without a login. */
export function csrfToken(): string {
  return state.kind === "in" ? state.session.csrf : "";
}

/** Tell that a call was refused for want of a login. The promise is kept once there is one again. */
export function loginNeeded(): Promise<void> {
  return new Promise((resume) => {
    waiting.push(resume);
    if (state.kind === "in") {
      become({ kind: "expired", session: state.session });
    } else if (state.kind === "asking") {
      become({ kind: "out" });
    }
  });
}

async function ask(method: string, body?: unknown): Promise<Record<string, unknown>> {
  const headers: Record<string, string> = { CSRFPreventionToken: csrfToken() };
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const response = await fetch(PATH, init);
  if (!response.ok) {
    throw await failureOf(response);
  }
  return ((await response.json()) as { data: Record<string, unknown> }).data;
}

/** Find out whether the browser still has a login. */
export async function resume(): Promise<void> {
  try {
    become({ kind: "in", session: (await ask("GET")) as unknown as Session });
  } catch {
    become({ kind: "out" });
  }
}

/** Whether the login is over. A refusal alone does not say so: a wrong password that a call has with it is told alike. */
export async function isOver(): Promise<boolean> {
  return (await fetch(PATH)).status === 401;
}

/** Kept once there is a login that is not over: for what the browser asks by itself, as a download. */
export async function loggedIn(): Promise<void> {
  if (await isOver()) {
    await loginNeeded();
  }
}

/** Raises ApiError when the credentials are wrong. */
export async function login(credentials: Credentials): Promise<LoginOutcome> {
  const { username, realm, password, answer } = credentials;
  const secret = answer ? { password: answer.factor, "tfa-challenge": answer.challenge } : { password };
  const data = await ask("POST", { username, realm, ...secret });
  if (typeof data.challenge === "string") {
    return { challenge: data.challenge, factors: data.factors as string[] };
  }
  const session = data as unknown as Session;
  const other = state.kind === "expired" && state.session.username !== session.username;
  become({ kind: "in", session });
  if (other) {
    location.reload(); // what is on the page is another user's
  }
  return { session };
}

export async function logout(): Promise<void> {
  await ask("DELETE");
  become({ kind: "out" });
}

setInterval(async () => {
  if (state.kind === "in") {
    try {
      become({ kind: "in", session: (await ask("PUT")) as unknown as Session });
    } catch {
      // The next call finds out.
    }
  }
}, RENEWED_AFTER);
