/** The audit log, newest first, page by page. */
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { AuditEvent, AuditFilter } from "../logic/audit";

export interface AuditRow {
  readonly id: number;
  /** Seconds since the epoch. */
  readonly time: number;
  readonly event: AuditEvent;
  /** Left out for who is not known. */
  readonly user?: string;
  readonly address?: string;
  readonly method?: string;
  readonly path?: string;
  /** Of HTTP; 101 is a console that was opened, 0 a call that the end of the daemon interrupted. */
  readonly status: number;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly upid?: string;
  readonly error?: string;
}

const PAGE = 100;
const LOOKED_AFTER = 5_000;

export function useAudit({ user, path, event, failed }: AuditFilter) {
  const filter = {
    ...(user !== "" && { user }),
    ...(path !== "" && { path }),
    ...(event !== undefined && { event }),
    ...(failed && { failed: true }),
  };
  return useInfiniteQuery({
    queryKey: ["audit", filter],
    queryFn: async ({ pageParam }) => {
      const params = { query: { ...filter, start: pageParam, limit: PAGE } };
      return (await answer<unknown>(api.GET("/api2/json/bastide/audit", { params }))) as readonly AuditRow[];
    },
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (last.length < PAGE ? undefined : pages.length * PAGE),
    placeholderData: keepPreviousData,
    refetchInterval: LOOKED_AFTER,
    // Records that came meanwhile move the later pages on.
    select: ({ pages }) => [...new Map(pages.flat().map((row) => [row.id, row])).values()],
  });
}
