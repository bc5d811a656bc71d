/** The host itself: what it has and what it does. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface NodeStatus {
  readonly cpu: number;
  readonly wait?: number;
  readonly loadavg: readonly (string | number)[];
  readonly uptime: number;
  readonly kversion?: string;
  readonly cpuinfo: { readonly cpus: number; readonly model?: string };
  readonly memory: { readonly total: number; readonly used: number };
  readonly swap?: { readonly total: number; readonly used: number };
  readonly rootfs: { readonly total: number; readonly used: number };
}

export function useNodeStatus(node: string) {
  return useQuery({
    queryKey: ["nodes", node, "status"],
    queryFn: async () => {
      const call = api.GET("/api2/json/nodes/{node}/status", { params: { path: { node } } });
      return (await answer<unknown>(call)) as NodeStatus;
    },
    refetchInterval: 3_000,
    staleTime: 1_000,
  });
}

export type NodeTimeframe = "hour" | "day" | "week" | "month" | "year";
export interface NodeSample {
  readonly time: number;
  readonly cpu?: number;
  readonly iowait?: number;
  readonly loadavg?: number;
  readonly memused?: number;
  readonly memtotal?: number;
  readonly roottotal?: number;
  readonly rootused?: number;
  readonly netin?: number;
  readonly netout?: number;
}

export function useNodeSeries(node: string, timeframe: NodeTimeframe) {
  return useQuery({
    queryKey: ["series", "node", node, timeframe],
    queryFn: async () => {
      const params = { path: { node }, query: { timeframe } };
      const call = api.GET("/api2/json/nodes/{node}/rrddata", { params });
      return (await answer<unknown>(call)) as readonly NodeSample[];
    },
    refetchInterval: timeframe === "hour" ? 20_000 : 120_000,
    placeholderData: (before) => before,
  });
}
