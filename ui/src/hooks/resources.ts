/** What there is: nodes, guests and storages, as `/cluster/resources` lists them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface GuestRow {
  readonly id: string;
  readonly type: "lxc" | "qemu";
  readonly vmid: number;
  readonly name?: string;
  readonly node: string;
  readonly status: string;
  readonly template?: number;
  readonly tags?: string;
  readonly pool?: string;
  readonly lock?: string;
  readonly uptime?: number;
  readonly cpu?: number;
  readonly maxcpu?: number;
  readonly mem?: number;
  readonly maxmem?: number;
  readonly disk?: number;
  readonly maxdisk?: number;
}

export interface NodeRow {
  readonly id: string;
  readonly type: "node";
  readonly node: string;
  readonly status: string;
  readonly uptime?: number;
  readonly cpu?: number;
  readonly maxcpu?: number;
  readonly mem?: number;
  readonly maxmem?: number;
  readonly disk?: number;
  readonly maxdisk?: number;
}

export interface StorageRow {
  readonly id: string;
  readonly type: "storage";
  readonly storage: string;
  readonly node: string;
  readonly status: string;
  readonly content: string;
  readonly plugintype: string;
  readonly disk?: number;
  readonly maxdisk?: number;
}

const USE_EVERY = 5_000;

async function rows<Row>(type: "vm" | "node" | "storage"): Promise<Row[]> {
  return (await answer(api.GET("/api2/json/cluster/resources", { params: { query: { type } } }))) as Row[];
}

export function useGuests() {
  return useQuery({ queryKey: ["guests"], queryFn: () => rows<GuestRow>("vm"), refetchInterval: USE_EVERY });
}

export function useNodes() {
  return useQuery({ queryKey: ["nodes"], queryFn: () => rows<NodeRow>("node"), refetchInterval: USE_EVERY });
}

export function useStorages() {
  return useQuery({ queryKey: ["storage"], queryFn: () => rows<StorageRow>("storage"), refetchInterval: 6 * USE_EVERY });
}

/** One guest's row; undefined while the list is not there and when there is no such guest. */
export function useGuest(vmid: number): GuestRow | undefined {
  return useGuests().data?.find((row) => row.vmid === vmid);
}
