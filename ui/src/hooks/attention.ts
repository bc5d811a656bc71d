/** What needs attention, of all that is known. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { answer, api } from "../api/client";
import { ApiError } from "../api/errors";
import { attention, type Finding } from "../logic/attention";
import { useDaemon } from "./creating";
import { useGuestExtras, useGuests, useStorages } from "./resources";
import type { TaskRow } from "./tasks";

const DAYS = 7;
const MOST = 500;
const NOTHING: readonly never[] = [];

/** The tasks of a week, newest first. */
function useWeek(node: string | undefined) {
  return useQuery({
    queryKey: ["tasks", "list", "week", node],
    queryFn: async () => {
      const since = Math.floor(Date.now() / 1000) - DAYS * 86_400;
      const params = { path: { node: node ?? "" }, query: { source: "all", since, limit: MOST } as const };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/tasks", { params }))) as TaskRow[];
    },
    enabled: node !== undefined,
  });
}

interface Unsaved {
  readonly vmid: number;
  readonly name?: string;
}

/** What was asked; nothing for who may not see it. */
async function orNothing<Row>(asked: Promise<unknown>): Promise<readonly Row[]> {
  try {
    return (await asked) as readonly Row[];
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) {
      return NOTHING;
    }
    throw error;
  }
}

/** The guests that no backup job saves. */
function useUnsaved() {
  return useQuery({
    queryKey: ["jobs", "unsaved"],
    queryFn: () => orNothing<Unsaved>(answer<unknown>(api.GET("/api2/json/cluster/backup-info/not-backed-up"))),
    refetchInterval: 60_000,
  });
}

interface Damaged {
  readonly key: string;
  readonly reason: string;
}

/** The records that the daemon has set aside. */
function useDamaged() {
  return useQuery({
    queryKey: ["records"],
    queryFn: () => orNothing<Damaged>(answer<unknown>(api.GET("/api2/json/bastide/records"))),
    refetchInterval: 60_000,
  });
}

/** The findings; undefined until enough is known to say that there are none. */
export function useAttention(): readonly Finding[] | undefined {
  const host = useDaemon().data;
  const guests = useGuests().data;
  const extras = useGuestExtras().data;
  const storages = useStorages().data;
  const tasks = useWeek(host?.node).data;
  const unsaved = useUnsaved().data ?? NOTHING;
  const damaged = useDamaged().data ?? NOTHING;
  return useMemo(() => {
    if (host === undefined || guests === undefined || storages === undefined || tasks === undefined) {
      return undefined;
    }
    const onboot = new Set((extras ?? NOTHING).filter((one) => one.onboot === 1).map(({ vmid }) => vmid));
    return attention({ guests, onboot, storages, tasks, emulation: host.emulation, unsaved, damaged });
  }, [host, guests, extras, storages, tasks, unsaved, damaged]);
}
