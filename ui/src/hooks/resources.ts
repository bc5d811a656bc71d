/** What there is: nodes, guests and storages, as `/cluster/resources` lists them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { keepRows } from "../logic/rows";
import { queries } from "./queries";

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

/** What the list of guests does not have: addresses are asked of the guests themselves. */
export interface GuestExtra {
  readonly vmid: number;
  readonly onboot?: number;
  readonly addresses?: readonly string[];
}

const USE_EVERY = 5_000;
/** So many guests take so long to be told and read that their figures are asked for more rarely. */
const MANY = 1_000;
const FEW = 10;

async function rows<Row>(type: "vm" | "node" | "storage"): Promise<Row[]> {
  return (await answer(api.GET("/api2/json/cluster/resources", { params: { query: { type } } }))) as Row[];
}

export function useGuests() {
  return useQuery({
    queryKey: ["guests"],
    queryFn: () => rows<GuestRow>("vm"),
    structuralSharing: (before, after) => keepRows(before as GuestRow[] | undefined, after as GuestRow[]),
    refetchInterval: (query) => ((query.state.data?.length ?? 0) > MANY ? 6 * USE_EVERY : USE_EVERY),
  });
}

/** Addresses, and which guests start with the host. */
export function useGuestExtras() {
  return useQuery({
    queryKey: ["guests", "extras"],
    queryFn: async () => (await answer(api.GET("/api2/json/bastide/guests"))) as unknown as readonly GuestExtra[],
    structuralSharing: (before, after) => keepRows(before as GuestExtra[] | undefined, after as GuestExtra[]),
    refetchInterval: (query) => ((query.state.data?.length ?? 0) > MANY ? 12 * USE_EVERY : 3 * USE_EVERY),
  });
}

/** The names of all pools. */
export function usePoolNames() {
  return useQuery({
    queryKey: ["pools", "names"],
    queryFn: async () => {
      const found = (await answer(api.GET("/api2/json/pools"))) as unknown as readonly { poolid: string }[];
      return found.map(({ poolid }) => poolid);
    },
  });
}

export function useNodes() {
  return useQuery({ queryKey: ["nodes"], queryFn: () => rows<NodeRow>("node"), refetchInterval: USE_EVERY });
}

export function useStorages() {
  return useQuery({
    queryKey: ["storage"],
    queryFn: () => rows<StorageRow>("storage"),
    refetchInterval: 6 * USE_EVERY,
  });
}

/** One guest's row; undefined while the list is not there and when there is no such guest. */
export function useGuest(vmid: number): GuestRow | undefined {
  return useGuests().data?.find((row) => row.vmid === vmid);
}

/** What a guest's state has of its row in the list. */
type Changed = Partial<Omit<GuestRow, "id" | "type" | "vmid" | "node">>;

async function readRow({ type, node, vmid, ...before }: GuestRow): Promise<GuestRow> {
  const params = { path: { node, vmid } };
  const call =
    type === "lxc"
      ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/status/current", { params })
      : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/status/current", { params });
  const now = (await answer<unknown>(call)) as Changed;
  const { lock: _lock, tags: _tags, ...kept } = before;
  const keys = [
    "name",
    "status",
    "template",
    "tags",
    "lock",
    "uptime",
    "cpu",
    "mem",
    "maxmem",
    "disk",
    "maxdisk",
  ] as const;
  const told = Object.fromEntries(keys.flatMap((key) => (now[key] === undefined ? [] : [[key, now[key]]])));
  return { ...kept, ...told, type, node, vmid };
}

/**
 * Look again at the guests of which there is news: at their rows alone where the list is long and few have changed, since
 * to ask for ten thousand takes longer than a frame. A guest that came or went changes the list.
 */
export async function refreshGuests(vmids: readonly number[]): Promise<void> {
  const list = queries.getQueryData<GuestRow[]>(["guests"]) ?? [];
  const known = list.filter(({ vmid }) => vmids.includes(vmid));
  if (list.length > MANY && vmids.length <= FEW && known.length === vmids.length) {
    try {
      const fresh = new Map((await Promise.all(known.map(readRow))).map((row) => [row.vmid, row]));
      queries.setQueryData<GuestRow[]>(["guests"], (rows) => rows?.map((row) => fresh.get(row.vmid) ?? row));
      return;
    } catch {
      // One of them is gone.
    }
  }
  void queries.invalidateQueries({ queryKey: ["guests"], exact: true });
  void queries.invalidateQueries({ queryKey: ["guests", "extras"] });
}
