/** The stream of what has changed: names alone, of what the user may see. */

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

/** Listen until the returned function is called. */
export function listen(listener: Listener): () => void {
  const source = new EventSource("/api2/json/bastide/events");
  source.onopen = () => listener.connected(true);
  source.onerror = () => listener.connected(false);
  source.onmessage = (event: MessageEvent<string>) => listener.news(JSON.parse(event.data) as News);
  return () => source.close();
}
