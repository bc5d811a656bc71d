/** Tasks: which there are, how one stands, what its log says. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { answer, api } from "../api/client";
import { ApiError, told } from "../api/errors";
import { nextNews } from "./events";

/** A row of a list of tasks; one that runs has neither `endtime` nor `status`. */
export interface TaskRow {
  readonly upid: string;
  readonly node: string;
  readonly type: string;
  readonly id: string;
  readonly user: string;
  readonly starttime: number;
  readonly endtime?: number;
  readonly status?: string;
}

/** One task; `exitstatus` (`OK`, `WARNINGS: n`, else what went wrong) once it has stopped. */
export interface TaskStatus {
  readonly upid: string;
  readonly node: string;
  readonly type: string;
  readonly id: string;
  readonly user: string;
  readonly starttime: number;
  readonly status: "running" | "stopped";
  readonly exitstatus?: string;
}

export interface LogLine {
  readonly n: number;
  readonly t: string;
}

const LOOKED_AFTER = 2_000;
const LONGEST_WAIT = 20;

/** The running and the most recent tasks, newest first. */
export function useTasks() {
  return useQuery({
    queryKey: ["tasks"],
    queryFn: async () => (await answer(api.GET("/api2/json/cluster/tasks"))) as TaskRow[],
    refetchInterval: 10_000,
  });
}

async function readTask(upid: string): Promise<TaskStatus> {
  const params = { path: { upid }, query: { wait: 0 } };
  return (await answer(api.GET("/api2/json/bastide/tasks/{upid}", { params }))) as unknown as TaskStatus;
}

/** How one task stands, until it has ended. */
export function useTask(upid: string | undefined) {
  return useQuery({
    queryKey: ["tasks", upid],
    queryFn: () => readTask(upid ?? ""),
    enabled: upid !== undefined,
    refetchInterval: (query) => (query.state.data?.status === "stopped" ? false : LOOKED_AFTER),
  });
}

/** What was asked, once somebody answers: a daemon that starts anew is silent for a while, and its tasks have not failed. */
async function answered<Answer>(ask: () => Promise<Answer>, signal?: AbortSignal): Promise<Answer> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof ApiError || signal?.aborted) {
        throw error;
      }
      await new Promise((resume) => setTimeout(resume, LOOKED_AFTER));
    }
  }
}

/**
 * Wait for a task's end. It waits for news of the task instead of holding a call open, since a browser has but six
 * connections for everything.
 */
export async function followTask(upid: string): Promise<TaskStatus> {
  for (;;) {
    const news = nextNews(upid, LOOKED_AFTER);
    const task = await answered(() => readTask(upid));
    if (task.status === "stopped") {
      return task;
    }
    await news;
  }
}

export interface TaskLog {
  readonly lines: readonly LogLine[];
  readonly status?: TaskStatus;
  readonly failure?: string;
}

async function readNews(upid: string, start: number, signal: AbortSignal) {
  const params = { path: { upid }, query: { start, wait: LONGEST_WAIT } };
  const news = await answer(api.GET("/api2/json/bastide/tasks/{upid}", { params, signal }));
  return news as unknown as TaskStatus & { log: readonly LogLine[] };
}

/** A task's log as it grows. Holds one call open: for a log that is looked at. */
export function useTaskLog(upid: string): TaskLog {
  const [log, setLog] = useState<TaskLog>({ lines: [] });
  useEffect(() => {
    const ending = new AbortController();
    async function follow(): Promise<void> {
      let lines: readonly LogLine[] = [];
      for (;;) {
        const { log: more, ...status } = await answered(
          () => readNews(upid, lines.length, ending.signal),
          ending.signal,
        );
        if (ending.signal.aborted) {
          return;
        }
        lines = [...lines, ...more];
        setLog({ lines, status });
        if (status.status === "stopped" && more.length === 0) {
          return;
        }
      }
    }
    setLog({ lines: [] });
    follow().catch((error: unknown) => {
      if (!ending.signal.aborted) {
        setLog((before) => ({ ...before, failure: told(error) }));
      }
    });
    return () => ending.abort();
  }, [upid]);
  return log;
}
