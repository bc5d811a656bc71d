/** The tasks of a node, newest first, page by page, as a filter asks for them. */
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { filterOf, type Outcome } from "../logic/tasks";
import type { TaskRow } from "./tasks";

export interface TaskQuery {
  readonly vmid?: number | undefined;
  readonly type?: string | undefined;
  readonly user?: string | undefined;
  readonly outcome?: Outcome | undefined;
}

const PAGE = 100;

export function useTaskList(node: string | undefined, { vmid, type, user, outcome }: TaskQuery) {
  const filter = {
    ...filterOf(outcome),
    ...(vmid !== undefined && { vmid }),
    ...(type !== undefined && { typefilter: type }),
    ...(user !== undefined && { userfilter: user }),
  };
  return useInfiniteQuery({
    queryKey: ["tasks", "list", node, filter],
    enabled: node !== undefined,
    queryFn: async ({ pageParam }) => {
      const params = { path: { node: node ?? "" }, query: { ...filter, start: pageParam, limit: PAGE } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/tasks", { params }))) as readonly TaskRow[];
    },
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (last.length < PAGE ? undefined : pages.length * PAGE),
    placeholderData: keepPreviousData,
    // A page that is read while a task begins repeats the last row of the page before.
    select: ({ pages }) => [...new Map(pages.flat().map((row) => [row.upid, row])).values()],
  });
}
