/** Making a guest: its calls one after another, each of them followed to its end. */
import { useCallback, useState } from "react";
import { call } from "../api/client";
import { ApiError, told } from "../api/errors";
import { type CreationStep, mebibytesOf } from "../logic/creating";
import { parse } from "../logic/propertyString";
import type { Faults } from "../logic/schema";
import { useAct } from "./actions";

export interface CreationState {
  readonly busy: boolean;
  /** The task that runs, and what it does. */
  readonly upid?: string;
  readonly doing?: string;
  readonly failure?: string;
  readonly errors: Faults;
  /** Whether the guest is there, although something failed afterwards. */
  readonly made: boolean;
}

const IDLE: CreationState = { busy: false, errors: {}, made: false };

async function mustGrow({ action, grows }: CreationStep): Promise<boolean> {
  if (grows === undefined) {
    return true;
  }
  const config = (await call("GET", action.path.replace(/resize$/, "config"))) as Record<string, unknown>;
  const size = mebibytesOf(parse(String(config[grows.disk] ?? ""), "file").size ?? "");
  return size !== undefined && size < grows.mebibytes;
}

export function useCreation() {
  const act = useAct();
  const [state, setState] = useState<CreationState>(IDLE);

  const one = useCallback(
    async (step: CreationStep, made: boolean): Promise<void> => {
      if (!(await mustGrow(step))) {
        return;
      }
      const { task } = await act(step.action);
      if (task === undefined) {
        return;
      }
      setState({ busy: true, errors: {}, made, upid: task.upid, doing: step.action.title });
      const end = await task.ended;
      if (end.exitstatus !== "OK" && !end.exitstatus?.startsWith("WARNINGS")) {
        throw new Error(`${step.action.title}: ${end.exitstatus}`);
      }
    },
    [act],
  );

  /** Undefined when everything was done; otherwise what the API said of parameters, if it did. */
  const run = useCallback(
    async (steps: readonly CreationStep[]): Promise<Faults | undefined> => {
      let made = false;
      setState({ ...IDLE, busy: true });
      try {
        for (const step of steps) {
          await one(step, made);
          made = true;
        }
        setState({ ...IDLE, made: true });
        return undefined;
      } catch (error) {
        const refused = error instanceof ApiError && !made;
        const failure = refused ? error.message : told(error);
        const errors = refused ? error.errors : {};
        setState((before) => ({
          busy: false,
          failure,
          made,
          errors,
          ...(before.upid !== undefined && { upid: before.upid }),
        }));
        return errors;
      }
    },
    [one],
  );

  const forgive = useCallback((name: string) => {
    setState((before) => {
      const { [name]: _, ...errors } = before.errors;
      if (_ === undefined) {
        return before;
      }
      const { failure, ...rest } = before;
      // Once all that was refused is mended, nothing is said of it any more.
      return Object.keys(errors).length === 0 ? { ...rest, errors } : { ...before, errors };
    });
  }, []);
  return { ...state, run, forgive };
}
