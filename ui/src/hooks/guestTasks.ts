/** The tasks of one guest, running ones included, newest first. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { GuestRef } from "./guest";
import type { TaskRow } from "./tasks";

export function useGuestTasks({ node, vmid }: GuestRef) {
  return useQuery({
    queryKey: ["tasks", "list", "guest", vmid],
    queryFn: async () => {
      const params = { path: { node }, query: { vmid, limit: 200, source: "all" as const } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/tasks", { params }))) as TaskRow[];
    },
    refetchInterval: 5_000,
  });
}
