/** Doing what an action says, and following the task that it starts. */
import { call } from "../api/client";
import { told } from "../api/errors";
import { type Action, isUpid, pairs, touched } from "../logic/actions";
import { queries } from "./queries";
import { followTask, type TaskStatus } from "./tasks";

export interface Done {
  /** What the API answered. */
  readonly answer: unknown;
  /** The task that was started, if one was, and its end; a failed task is no rejection. */
  readonly task?: { readonly upid: string; readonly ended: Promise<TaskStatus> };
}

/** What there is to tell of an action; one with an id that was told before takes its place. */
export interface Notice {
  readonly id: string;
  readonly kind: "running" | "done" | "warned" | "failed";
  readonly title: string;
  readonly message: string;
  /** The task whose log says more. */
  readonly upid?: string;
}

const readers = new Set<(notice: Notice) => void>();

/** Read what there is to tell until the returned function is called. */
export function onNotice(reader: (notice: Notice) => void): () => void {
  readers.add(reader);
  return () => readers.delete(reader);
}

function tell(notice: Notice): void {
  for (const reader of readers) {
    reader(notice);
  }
}

let failures = 0;

/** Tell of a failure that has no better place. */
export function tellFailure(title: string, error: unknown): void {
  failures += 1;
  tell({ id: `failure-${failures}`, kind: "failed", title: `${title}: failed`, message: told(error) });
}

function makeStale(action: Action): void {
  for (const subject of touched(action.path)) {
    void queries.invalidateQueries({ queryKey: [subject] });
  }
}

function tellEnd(upid: string, title: string, exitstatus: string): void {
  if (exitstatus === "OK") {
    tell({ id: upid, upid, kind: "done", title: `${title}: done`, message: "" });
  } else if (exitstatus.startsWith("WARNINGS")) {
    tell({ id: upid, upid, kind: "warned", title: `${title}: done, with warnings`, message: exitstatus });
  } else {
    tell({ id: upid, upid, kind: "failed", title: `${title}: failed`, message: exitstatus });
  }
}

async function follow(action: Action, upid: string): Promise<TaskStatus> {
  tell({ id: upid, upid, kind: "running", title: action.title, message: "" });
  try {
    const task = await followTask(upid);
    tellEnd(upid, action.title, task.exitstatus ?? "");
    return task;
  } catch (error) {
    tellEnd(upid, action.title, told(error));
    throw error;
  } finally {
    makeStale(action);
  }
}

async function act(action: Action): Promise<Done> {
  const answer = await call(action.method, action.path, pairs(action.parameters));
  makeStale(action);
  return followAs(action, answer);
}

/** Follow the task that an answer to an action names, if it names one. */
export function followAs(action: Action, answer: unknown): Done {
  if (!isUpid(answer)) {
    return { answer };
  }
  const ended = follow(action, answer);
  ended.catch(() => undefined); // told already, and not everybody waits for it
  return { answer, task: { upid: answer, ended } };
}

/** Does an action: kept when the API has answered. Raises ApiError when it refuses, which the caller shows. */
export function useAct(): (action: Action) => Promise<Done> {
  return act;
}
