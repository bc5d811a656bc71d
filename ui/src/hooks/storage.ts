/** Storages: how they are configured, how full they are, and what is on them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api, call } from "../api/client";
import type { TypeFacts } from "../logic/storages";
import type { SeriesRow, Timeframe } from "./guest";

/** A storage as it is configured; its type says which other keys it has. */
export type StorageConfig = Readonly<Record<string, string | number>> & {
  readonly storage: string;
  readonly type: string;
  readonly content: string;
};

/** A storage as a node sees it. */
export interface StorageStatus {
  readonly storage: string;
  readonly type: string;
  readonly content: string;
  readonly shared: number;
  readonly enabled: number;
  readonly active: number;
  readonly total?: number;
  readonly used?: number;
  readonly avail?: number;
  readonly allocated?: number;
  readonly promised?: number;
  readonly formats?: { readonly default: string; readonly supported: readonly string[] };
}

export interface VolumeRow {
  readonly volid: string;
  readonly content: string;
  readonly format: string;
  readonly size: number;
  readonly used?: number;
  readonly ctime?: number;
  readonly vmid?: number;
  readonly parent?: string;
  readonly notes?: string;
  readonly protected?: number;
}

export interface StorageTypeRow extends TypeFacts {
  readonly shared: number;
  /** Programs that are not installed on the host. */
  readonly lacks?: string;
}

/** What a storage can do for guests: `lacks` names programs that are not installed. */
export interface StorageMeans {
  readonly storage: string;
  readonly type: string;
  readonly lacks?: string;
  readonly "copy-on-write"?: string;
}

const USE_EVERY = 20_000;

export function useStorageConfigs() {
  return useQuery({
    queryKey: ["storage", "config"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/storage"))) as StorageConfig[],
  });
}

/** The storages of a node with their space; with `content` those that may hold it. */
export function useNodeStorages(node: string | undefined) {
  return useQuery({
    queryKey: ["storage", "node", node],
    queryFn: async () => {
      const params = { path: { node: node ?? "" }, query: { format: true } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/storage", { params }))) as StorageStatus[];
    },
    enabled: node !== undefined,
    refetchInterval: USE_EVERY,
  });
}

export function useStorageTypes() {
  return useQuery({
    queryKey: ["document", "storage-types"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/storage-types"))) as StorageTypeRow[],
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function useStorageMeans() {
  return useQuery({
    queryKey: ["storage", "means"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/storage"))) as StorageMeans[],
  });
}

/** The volumes of a storage that the user may see. */
export function useContent(node: string | undefined, storage: string) {
  return useQuery({
    queryKey: ["storage", "content", node, storage],
    queryFn: async () => {
      const params = { path: { node: node ?? "", storage } };
      const call = api.GET("/api2/json/nodes/{node}/storage/{storage}/content", { params });
      return (await answer<unknown>(call)) as VolumeRow[];
    },
    enabled: node !== undefined,
  });
}

async function isos(node: string): Promise<VolumeRow[]> {
  const all = (await answer<unknown>(
    api.GET("/api2/json/nodes/{node}/storage", {
      params: { path: { node }, query: { content: "iso", enabled: true } },
    }),
  )) as StorageStatus[];
  const lists = await Promise.all(
    all
      .filter((one) => one.active)
      .map((one) => {
        const params = { path: { node, storage: one.storage }, query: { content: "iso" as const } };
        return answer<unknown>(api.GET("/api2/json/nodes/{node}/storage/{storage}/content", { params })) as Promise<
          VolumeRow[]
        >;
      }),
  );
  return lists.flat();
}

/** The ISO images on all storages of a node that answer. */
export function useIsos(node: string | undefined) {
  return useQuery({
    queryKey: ["storage", "isos", node],
    queryFn: () => isos(node ?? ""),
    enabled: node !== undefined,
  });
}

export function useStorageSeries(node: string | undefined, storage: string, timeframe: Timeframe) {
  return useQuery({
    queryKey: ["series", "storage", node, storage, timeframe],
    queryFn: async () => {
      const params = { path: { node: node ?? "", storage }, query: { timeframe } };
      const call = api.GET("/api2/json/nodes/{node}/storage/{storage}/rrddata", { params });
      return (await answer<unknown>(call)) as readonly SeriesRow[];
    },
    enabled: node !== undefined,
    refetchInterval: 60_000,
    placeholderData: (before) => before,
  });
}

export interface UrlMetadata {
  readonly filename?: string;
  readonly mimetype?: string;
  readonly size?: number;
}

/** Name, type and size of a file elsewhere. Raises ApiError. */
export async function askUrl(node: string, url: string, verify: boolean): Promise<UrlMetadata> {
  const params = { path: { node }, query: { url, "verify-certificates": verify } };
  return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/query-url-metadata", { params }))) as UrlMetadata;
}

/** What a server or this host has that could be a storage. Raises ApiError. */
export async function askScan(node: string, scan: string, query: Readonly<Record<string, string>>) {
  return (await call("GET", `/nodes/${node}/scan/${scan}`, Object.entries(query))) as Record<string, string>[];
}

/** The key of a storage's backups, asked for when it is wanted; root alone may. Raises ApiError. */
export async function askKey(storage: string): Promise<string> {
  const params = { path: { storage } };
  const told = (await answer<unknown>(api.GET("/api2/json/bastide/storage/{storage}/key", { params }))) as Readonly<
    Record<string, string>
  >;
  return told["encryption-key"] ?? "";
}
