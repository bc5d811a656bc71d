/** One guest: what it does now, what it is asked to be, and what is known of it over time. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { GuestRow } from "./resources";

/** What names a guest's place in the API. */
export type GuestRef = Pick<GuestRow, "vmid" | "node" | "type">;

export type Pressure = Readonly<
  Partial<
    Record<
      "pressurecpusome" | "pressureiosome" | "pressureiofull" | "pressurememorysome" | "pressurememoryfull",
      number
    >
  >
>;

export interface GuestStatus extends Pressure {
  readonly status: string;
  readonly name?: string;
  readonly lock?: string;
  readonly tags?: string;
  readonly template?: number;
  readonly uptime?: number;
  readonly cpu?: number;
  readonly cpus?: number;
  readonly mem?: number;
  readonly maxmem?: number;
  readonly swap?: number;
  readonly maxswap?: number;
  readonly disk?: number;
  readonly maxdisk?: number;
  readonly netin?: number;
  readonly netout?: number;
  readonly diskread?: number;
  readonly diskwrite?: number;
  readonly pid?: number;
  readonly qmpstatus?: string;
  readonly accelerator?: string;
  readonly warning?: string;
  readonly error?: string;
  readonly agent?: number;
  readonly "running-machine"?: string;
  readonly "running-qemu"?: string;
}

/** An option: what is in force, and what waits for the next start. */
export interface PendingRow {
  readonly key: string;
  readonly value?: string | number;
  readonly pending?: string | number;
  readonly delete?: number;
}

export type GuestConfig = Readonly<Record<string, string | number>>;
export type Timeframe = "hour" | "day" | "week" | "month" | "year";
export type SeriesRow = Readonly<Record<string, number | undefined>> & { readonly time: number };

const USE_EVERY = 3_000;

export function guestPath({ node, type, vmid }: GuestRef): string {
  return `/nodes/${node}/${type}/${vmid}`;
}

function place({ node, vmid }: GuestRef) {
  return { path: { node, vmid } };
}

export function useStatus(guest: GuestRef) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "status"],
    queryFn: async () => {
      const params = place(guest);
      const call =
        guest.type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/status/current", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/status/current", { params });
      return (await answer<unknown>(call)) as GuestStatus;
    },
    refetchInterval: USE_EVERY,
    staleTime: USE_EVERY,
  });
}

/** The options as they will be at the next start. `digest` names this state of them. */
export function useConfig(guest: GuestRef) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "config"],
    queryFn: async () => {
      const params = place(guest);
      const call =
        guest.type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/config", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/config", { params });
      return (await answer<unknown>(call)) as GuestConfig;
    },
  });
}

export function usePending(guest: GuestRef) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "pending"],
    queryFn: async () => {
      const params = place(guest);
      const call =
        guest.type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/pending", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/pending", { params });
      return (await answer<unknown>(call)) as readonly PendingRow[];
    },
  });
}

/** How often a chart gets a new point, by its length. */
const SERIES_EVERY: Readonly<Record<Timeframe, number>> = {
  hour: 20_000,
  day: 60_000,
  week: 600_000,
  month: 600_000,
  year: 600_000,
};

export function useSeries(guest: GuestRef, timeframe: Timeframe, cf: "AVERAGE" | "MAX" = "AVERAGE") {
  return useQuery({
    queryKey: ["series", "guest", guest.vmid, timeframe, cf],
    queryFn: async () => {
      const params = { ...place(guest), query: { timeframe, cf } };
      const call =
        guest.type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/rrddata", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/rrddata", { params });
      return (await answer<unknown>(call)) as readonly SeriesRow[];
    },
    refetchInterval: SERIES_EVERY[timeframe],
    placeholderData: (before) => before,
  });
}

/** The names of a guest's snapshots; the last row of the list is the present state. */
export function useSnapshotNames(guest: GuestRef): readonly string[] {
  const rows = useQuery({
    queryKey: ["guests", guest.vmid, "snapshots", "names"],
    queryFn: async () => {
      const params = place(guest);
      const call =
        guest.type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/snapshot", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/snapshot", { params });
      const found = (await answer<unknown>(call)) as readonly { readonly name: string }[];
      return found.map((row) => row.name).filter((name) => name !== "current");
    },
  });
  return rows.data ?? [];
}

/** What a guest can be reached by, as its kernel, its agent or the host knows. */
export function useAddresses(guest: GuestRef, running: boolean) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "addresses", running],
    queryFn: async () => {
      const params = { path: { guest: String(guest.vmid) } };
      return (await answer<unknown>(api.GET("/api2/json/bastide/guests/{guest}/addresses", { params }))) as string[];
    },
    enabled: running,
    refetchInterval: 10_000,
  });
}
