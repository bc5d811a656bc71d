/**
 * The stream of what has changed: names alone, of what the user may see.
 *
 * Browsers keep few connections to one host, for all tabs together: a tab that nobody looks at gives its stream up.
 */
import { onSession, sessionState } from "./session";

export interface News {
  readonly guests?: readonly number[];
  readonly tasks?: readonly string[];
  readonly topics?: readonly string[];
}

export interface Listener {
  news(news: News): void;
  /** Whether the stream stands; when it comes back, anything may have changed meanwhile. */
  connected(standing: boolean): void;
}

const PATH = "/api2/json/bastide/events";
const TOLD_AFTER = 1_500;
const TRIED_EVERY = 1_000;
const UNSEEN_KEPT = 30_000;

/** Listen until the returned function is called. */
export function listen(listener: Listener): () => void {
  const stream = new Stream(listener);
  const leaveSession = onSession(() => stream.tend());
  const onSeen = () => stream.seen();
  document.addEventListener("visibilitychange", onSeen);
  stream.tend();
  return () => {
    document.removeEventListener("visibilitychange", onSeen);
    leaveSession();
    stream.close();
  };
}

class Stream {
  private source: EventSource | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private telling: ReturnType<typeof setTimeout> | undefined;
  private leaving: ReturnType<typeof setTimeout> | undefined;
  private gap = false;

  constructor(private readonly listener: Listener) {}

  /** Open the stream unless it is open, nobody looks, or there is no login by which it could be. */
  tend(): void {
    clearTimeout(this.retry);
    if (this.source !== undefined || document.hidden || sessionState().kind !== "in") {
      return;
    }
    const source = new EventSource(PATH);
    this.source = source;
    source.onopen = () => this.opened();
    source.onmessage = (event: MessageEvent<string>) => this.listener.news(JSON.parse(event.data) as News);
    source.onerror = () => this.failed();
  }

  /** The tab was hidden or shown. */
  seen(): void {
    clearTimeout(this.leaving);
    if (document.hidden) {
      this.leaving = setTimeout(() => this.leave(), UNSEEN_KEPT);
    } else {
      this.tend();
    }
  }

  close(): void {
    this.source?.close();
    this.source = undefined;
    for (const timer of [this.retry, this.telling, this.leaving]) {
      clearTimeout(timer);
    }
  }

  private leave(): void {
    this.close();
    this.gap = true;
  }

  private opened(): void {
    clearTimeout(this.telling);
    this.telling = undefined;
    if (this.gap) {
      this.gap = false;
      this.listener.connected(false);
    }
    this.listener.connected(true);
  }

  /** A stream also ends with its ticket, and is back at once: only a longer silence is told. */
  private failed(): void {
    this.source?.close();
    this.source = undefined;
    this.gap = true;
    this.telling ??= setTimeout(() => this.listener.connected(false), TOLD_AFTER);
    this.retry = setTimeout(() => this.tend(), TRIED_EVERY);
  }
}
