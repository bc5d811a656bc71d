/** What there is to make a guest of: free ids, bridges, processors. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface BridgeRow {
  readonly iface: string;
  readonly type: string;
  readonly active?: number;
  readonly cidr?: string;
  readonly address?: string;
  readonly comments?: string;
}

export interface CpuModelRow {
  readonly name: string;
  readonly vendor?: string;
  readonly custom?: number;
}

/** The daemon: its node, its own bridge with DHCP and a way out, and how VMs run on its host. */
export function useDaemon() {
  return useQuery({
    queryKey: ["nodes", "daemon"],
    queryFn: () => answer(api.GET("/api2/json/bastide/status")),
    staleTime: 60_000,
  });
}

/** The next free id, asked anew for each form. */
export function useNextId() {
  return useQuery({
    queryKey: ["nextid"],
    queryFn: async () => String(await answer<unknown>(api.GET("/api2/json/cluster/nextid"))),
    staleTime: 0,
    gcTime: 0,
  });
}

export function useBridges(node: string | undefined) {
  return useQuery({
    queryKey: ["nodes", node, "bridges"],
    queryFn: async () => {
      const params = { path: { node: node ?? "" }, query: { type: "any_bridge" as const } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/network", { params }))) as BridgeRow[];
    },
    enabled: node !== undefined,
  });
}

export function useCpuModels(node: string | undefined) {
  return useQuery({
    queryKey: ["nodes", node, "cpus"],
    queryFn: async () => {
      const params = { path: { node: node ?? "" } };
      return (await answer<unknown>(
        api.GET("/api2/json/nodes/{node}/capabilities/qemu/cpu", { params }),
      )) as CpuModelRow[];
    },
    enabled: node !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function useNodeCpus(node: string | undefined): number | undefined {
  const status = useQuery({
    queryKey: ["nodes", node, "status"],
    queryFn: async () => {
      const params = { path: { node: node ?? "" } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/status", { params }))) as {
        readonly cpuinfo?: { readonly cpus?: number };
      };
    },
    enabled: node !== undefined,
    staleTime: 30_000,
  });
  return status.data?.cpuinfo?.cpus;
}

export interface PoolRow {
  readonly poolid: string;
  readonly comment?: string;
}

export function usePools() {
  return useQuery({
    queryKey: ["pools"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/pools"))) as PoolRow[],
  });
}
