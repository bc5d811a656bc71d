/** What runs by itself to keep backups, when it runs next, and how restore tests went. */
import { useQuery } from "@tanstack/react-query";
import { answer, api, call } from "../api/client";
import { JOB_PATHS, type JobKind, type JobRow } from "../logic/backupJobs";

const LOOKED_AFTER = 30_000;

export function useJobs(kind: JobKind) {
  return useQuery({
    queryKey: ["jobs", kind],
    queryFn: async () => (await call("GET", JOB_PATHS[kind])) as readonly JobRow[],
    refetchInterval: LOOKED_AFTER,
  });
}

/** The next moments of a calendar event. */
export function useSchedule(schedule: string, iterations: number) {
  return useQuery({
    queryKey: ["jobs", "schedule", schedule, iterations],
    enabled: schedule.trim() !== "",
    staleTime: LOOKED_AFTER,
    queryFn: async () => {
      const params = { query: { schedule, iterations } };
      const moments = await answer<unknown>(api.GET("/api2/json/cluster/jobs/schedule-analyze", { params }));
      return (moments as readonly { readonly timestamp: number }[]).map((one) => one.timestamp);
    },
  });
}

export interface UnsavedGuest {
  readonly vmid: number;
  readonly type: "lxc" | "qemu";
  readonly name?: string;
}

/** The guests that no enabled job saves. */
export function useNotBackedUp() {
  return useQuery({
    queryKey: ["jobs", "not-backed-up"],
    queryFn: async () =>
      (await answer<unknown>(api.GET("/api2/json/cluster/backup-info/not-backed-up"))) as readonly UnsavedGuest[],
  });
}

export interface IncludedGuest {
  readonly id: number;
  readonly type: string;
  readonly name?: string;
  readonly children?: readonly {
    readonly id: string;
    readonly name: string;
    readonly included: number;
    readonly reason: string;
  }[];
}

/** The guests of a job, and which of their volumes are saved. */
export function useIncluded(id: string) {
  return useQuery({
    queryKey: ["jobs", "included", id],
    queryFn: async () => {
      const params = { path: { id } };
      const found = await answer<unknown>(api.GET("/api2/json/cluster/backup/{id}/included_volumes", { params }));
      return (found as { readonly children: readonly IncludedGuest[] }).children;
    },
  });
}

export interface RestoreTest {
  readonly backup: string;
  readonly vmid: number;
  readonly kind: "lxc" | "qemu";
  readonly started: number;
  readonly duration: number;
  readonly ok: boolean | number;
  /** How far it came: restore, start, boot, probe or done. */
  readonly step: string;
  readonly upid: string;
  readonly reason?: string;
  readonly output?: string;
}

/** How restore tests went, newest first. */
export function useRestoreTests() {
  return useQuery({
    queryKey: ["jobs", "tests"],
    queryFn: async () => {
      const params = { query: { limit: 200 } };
      return (await answer<unknown>(api.GET("/api2/json/bastide/backup/tests", { params }))) as readonly RestoreTest[];
    },
    refetchInterval: LOOKED_AFTER,
  });
}
