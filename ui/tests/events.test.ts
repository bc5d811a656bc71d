import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { listen } from "../src/api/events";
import { resume } from "../src/api/session";

class Source {
  static all: Source[] = [];
  onopen: (() => void) | undefined;
  onerror: (() => void) | undefined;
  onmessage: ((event: { data: string }) => void) | undefined;
  closed = false;

  constructor(readonly url: string) {
    Source.all.push(this);
  }

  close(): void {
    this.closed = true;
  }
}

let heard: unknown[] = [];
let hidden = false;
let stop: () => void;

const listener = { news: (news: unknown) => heard.push(news), connected: (now: boolean) => heard.push(now) };

function last(): Source {
  const source = Source.all.at(-1);
  if (source === undefined) {
    throw new Error("no stream was opened");
  }
  return source;
}

function show(now: boolean): void {
  hidden = !now;
  document.dispatchEvent(new Event("visibilitychange"));
}

beforeEach(async () => {
  heard = [];
  hidden = false;
  Source.all = [];
  vi.stubGlobal("EventSource", Source);
  vi.stubGlobal("fetch", async () => new Response('{"data":{"username":"ada@pve","csrf":"c"}}'));
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
  await resume();
  vi.useFakeTimers();
  stop = listen(listener);
});

afterEach(() => {
  stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("news is handed on", () => {
  last().onopen?.();
  last().onmessage?.({ data: '{"guests":[100]}' });
  expect(heard).toEqual([true, { guests: [100] }]);
});

test("a stream that is back at once has a gap, but was never told to be lost", () => {
  last().onopen?.();
  last().onerror?.();
  vi.advanceTimersByTime(1000);
  expect(Source.all.length).toBe(2);
  expect(heard).toEqual([true]);
  last().onopen?.();
  vi.advanceTimersByTime(10_000);
  expect(heard).toEqual([true, false, true]);
});

test("a longer silence is told, and the stream tried again until it stands", () => {
  last().onopen?.();
  for (let round = 0; round < 5; round += 1) {
    last().onerror?.();
    vi.advanceTimersByTime(1000);
  }
  expect(heard).toEqual([true, false]);
  expect(Source.all.length).toBe(6);
  last().onopen?.();
  expect(heard.at(-1)).toBe(true);
});

test("a tab that nobody looks at gives its stream up after a while, and asks for all when it is seen again", () => {
  last().onopen?.();
  show(false);
  vi.advanceTimersByTime(10_000);
  show(true);
  vi.advanceTimersByTime(60_000);
  expect(last().closed).toBe(false);
  show(false);
  vi.advanceTimersByTime(31_000);
  expect(last().closed).toBe(true);
  show(true);
  expect(Source.all.length).toBe(2);
  last().onopen?.();
  expect(heard).toEqual([true, false, true]);
});

test("nothing is heard after the end", () => {
  stop();
  vi.advanceTimersByTime(60_000);
  show(true);
  expect(Source.all.length).toBe(1);
  expect(last().closed).toBe(true);
});
