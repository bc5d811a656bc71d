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
export type LoginOutcome =
  | { session: Session }
  | { challenge: string; factors: readonly string[]; username?: string | undefined };

const PATH = "/api2/json/bastide/session";
/** Changed with each login and logout, so that other tabs, which share the cookie, look again who is logged in. */
const TOLD_TO_TABS = "bastide-session";
const RENEWED_AFTER = 15 * 60 * 1000;

let state: SessionState = { kind: "asking" };
const listeners = new Set<() => void>();
let waiting: ((resumed: boolean) => void)[] = [];

export function sessionState(): SessionState {
  return state;
}

export function onSession(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function become(next: SessionState): void {
  state = next;
  if (next.kind === "in" || next.kind === "out") {
    const ended = waiting;
    waiting = [];
    for (const end of ended) {
      end(next.kind === "in");
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

/**
 * Tell that a call made with a token was refused for want of a login; kept with whether to make it again. A refusal alone
 * does not say that the login is over: a wrong password that a call has with it is told alike. Where it is over, it is kept
 * once there is another, of the same user: a call of somebody who has logged out is never made again.
 */
export async function loginNeeded(refused: string): Promise<boolean> {
  const before = state;
  if (before.kind === "in" && before.session.csrf === refused) {
    const session = await current();
    if (session !== null) {
      enter(session);
      return false;
    }
    if (state === before) {
      become({ kind: "expired", session: before.session });
    }
  }
  return state.kind === "expired" ? new Promise((end) => waiting.push(end)) : state.kind === "in";
}

async function ask(path: string, method: string, body?: unknown): Promise<Record<string, unknown> | null> {
  const headers: Record<string, string> = { CSRFPreventionToken: csrfToken() };
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const response = await fetch(path, init);
  if (!response.ok) {
    throw await failureOf(response);
  }
  return ((await response.json()) as { data: Record<string, unknown> | null }).data;
}

/** The login that the browser has. */
async function current(): Promise<Session | null> {
  return (await ask(PATH, "GET")) as unknown as Session | null;
}

function whose(): string | undefined {
  return state.kind === "in" || state.kind === "expired" ? state.session.username : undefined;
}

/** What is on the page, in its memory, kept for it and underway is another user's: begin anew. */
function leave(): void {
  sessionStorage.clear();
  become({ kind: "out" }); // a browser may keep the page as it was for its Back button
  location.replace("/");
}

/** Go on with a session, unless the page is another user's. */
function enter(session: Session): void {
  const before = whose();
  if (before !== undefined && before !== session.username) {
    leave();
  } else {
    become({ kind: "in", session });
  }
}

/** Kept once there is a login that is not over: for what the browser asks by itself, as a download. */
export async function loggedIn(): Promise<void> {
  await loginNeeded(csrfToken());
}

/** Find out whether the browser has a login. */
export async function resume(): Promise<void> {
  try {
    const session = await current();
    if (session !== null) {
      enter(session);
    } else if (state.kind === "asking") {
      become({ kind: "out" });
    } else if (state.kind !== "out") {
      leave();
    }
  } catch {
    if (state.kind === "asking") {
      become({ kind: "out" });
    }
  }
}

function tellTabs(): void {
  try {
    localStorage.setItem(TOLD_TO_TABS, String(Date.now()));
  } catch {
    // A browser that keeps nothing: its tabs find out by their next call.
  }
}

addEventListener("storage", ({ key }) => {
  if (key === TOLD_TO_TABS) {
    void resume();
  }
});

/** Raises ApiError when the credentials are wrong. */
export async function login(credentials: Credentials): Promise<LoginOutcome> {
  const { username, realm, password, answer } = credentials;
  const secret = answer ? { password: answer.factor, "tfa-challenge": answer.challenge } : { password };
  return begin((await ask(PATH, "POST", { username, realm, ...secret })) ?? {});
}

/** Log in with what an OpenID provider sent this page. Raises ApiError when it is not believed. */
export async function loginByProvider(code: string, providers: string): Promise<LoginOutcome> {
  const body = { code, state: providers, "redirect-url": location.origin };
  return begin((await ask(`${PATH}/openid`, "POST", body)) ?? {});
}

function begin(data: Record<string, unknown>): LoginOutcome {
  if (typeof data.challenge === "string") {
    return {
      challenge: data.challenge,
      factors: data.factors as string[],
      username: data.username as string | undefined,
    };
  }
  const session = data as unknown as Session;
  enter(session);
  tellTabs();
  return { session };
}

/** Log out, and forget whatever was shown. Raises ApiError, or what fetch raises. */
export async function logout(): Promise<void> {
  await ask(PATH, "DELETE");
  tellTabs();
  leave();
}

setInterval(async () => {
  if (state.kind === "in") {
    try {
      enter((await ask(PATH, "PUT")) as unknown as Session);
    } catch {
      // The next call finds out.
    }
  }
}, RENEWED_AFTER);
