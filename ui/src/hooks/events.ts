/** Keeps the cache true: what the daemon says has changed is asked for again where it is shown. */
import { useEffect, useSyncExternalStore } from "react";
import { listen, type News } from "../api/events";
import { queries } from "./queries";
import { refreshGuests } from "./resources";

let standing = true;
const watchers = new Set<() => void>();

const waiting = new Map<string, () => void>();

/** Kept when there is news of a task, or after so many milliseconds. */
export function nextNews(upid: string, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const before = waiting.get(upid);
    const timer = setTimeout(done, milliseconds);
    function done(): void {
      clearTimeout(timer);
      waiting.delete(upid);
      before?.();
      resolve();
    }
    waiting.set(upid, done);
  });
}

function setStanding(now: boolean): void {
  if (now !== standing) {
    standing = now;
    for (const watcher of watchers) {
      watcher();
    }
  }
}

function apply({ guests = [], tasks = [], topics = [] }: News): void {
  if (guests.length > 0) {
    void refreshGuests(guests);
    void queries.invalidateQueries({ queryKey: ["architect"] }); // reviews, room and plans are of guests
    for (const vmid of guests) {
      void queries.invalidateQueries({ queryKey: ["guests", vmid] });
    }
  }
  if (tasks.length > 0) {
    void queries.invalidateQueries({ queryKey: ["tasks"], exact: true });
    void queries.invalidateQueries({ queryKey: ["tasks", "list"] });
    for (const upid of tasks) {
      void queries.invalidateQueries({ queryKey: ["tasks", upid] });
      waiting.get(upid)?.();
    }
  }
  for (const topic of topics) {
    void queries.invalidateQueries({ queryKey: [topic] });
  }
}

/** Listen while mounted; once for the whole page. */
export function useEvents(): void {
  useEffect(() => {
    let lost = false;
    return listen({
      news: apply,
      connected: (now) => {
        setStanding(now);
        if (now && lost) {
          void queries.invalidateQueries();
        }
        lost = !now;
      },
    });
  }, []);
}

/** Whether the stream of changes stands. */
export function useConnected(): boolean {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => standing,
  );
}
