/** Doing what an action says, and following the task that it starts. */
import { notifications } from "@mantine/notifications";
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

function makeStale(action: Action): void {
  for (const subject of touched(action.path)) {
    void queries.invalidateQueries({ queryKey: [subject] });
  }
}

function tellEnd(id: string, title: string, exitstatus: string): void {
  const warned = exitstatus.startsWith("WARNINGS");
  const fine = exitstatus === "OK";
  notifications.update({
    id,
    title: fine ? `${title}: done` : warned ? `${title}: done, with warnings` : `${title}: failed`,
    message: fine ? "" : exitstatus,
    color: fine ? "green" : warned ? "yellow" : "red",
    role: fine ? "status" : "alert",
    loading: false,
    withCloseButton: true,
    autoClose: fine ? 3_000 : false,
  });
}

async function follow(action: Action, upid: string): Promise<TaskStatus> {
  const id = notifications.show({
    title: action.title,
    message: "Running",
    role: "status",
    loading: true,
    autoClose: false,
    withCloseButton: true,
  });
  try {
    const task = await followTask(upid);
    tellEnd(id, action.title, task.exitstatus ?? "");
    return task;
  } catch (error) {
    tellEnd(id, action.title, told(error));
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

/** Tell of a failure that has no better place. */
export function tellFailure(title: string, error: unknown): void {
  notifications.show({
    title: `${title}: failed`,
    message: told(error),
    color: "red",
    role: "alert",
    autoClose: false,
  });
}
