/** Backups on all storages, what is in them, and what pruning would leave. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { told } from "../api/errors";
import { type BackupRow, encodePath, storageOf } from "../logic/backups";
import type { PruneRow, Pruning } from "../logic/pruning";
import { useNodeStorages } from "./storage";

export interface Backups {
  /** Newest first. */
  readonly rows: readonly BackupRow[];
  /** The storages that gave no answer, and why. */
  readonly silent: readonly { readonly storage: string; readonly why: string }[];
}

/** The storages of a node that hold backups and can be asked. */
export function useBackupStorages(node: string | undefined): readonly string[] | undefined {
  const rows = useNodeStorages(node).data;
  return rows
    ?.filter((row) => row.enabled && row.active && row.content.split(",").includes("backup"))
    .map((row) => row.storage);
}

async function listBackups(node: string, storages: readonly string[]): Promise<Backups> {
  const found = await Promise.allSettled(
    storages.map((storage) => {
      const params = { path: { node, storage }, query: { content: "backup" as const } };
      return answer<unknown>(api.GET("/api2/json/nodes/{node}/storage/{storage}/content", { params }));
    }),
  );
  const rows = found.flatMap((one) => (one.status === "fulfilled" ? (one.value as BackupRow[]) : []));
  const silent = found.flatMap((one, index) =>
    one.status === "rejected" ? [{ storage: storages[index] ?? "", why: told(one.reason) }] : [],
  );
  return { rows: rows.sort((a, b) => (b.ctime ?? 0) - (a.ctime ?? 0)), silent };
}

export function useBackups(node: string | undefined) {
  const storages = useBackupStorages(node);
  return useQuery({
    queryKey: ["storage", "backups", node, storages],
    enabled: node !== undefined && storages !== undefined,
    queryFn: () => listBackups(node ?? "", storages ?? []),
    placeholderData: (before) => before,
  });
}

export interface FileRow {
  /** The path, in base64. */
  readonly filepath: string;
  readonly text: string;
  readonly type: string;
  readonly leaf: boolean | number;
  readonly size?: number;
  readonly mtime?: number;
}

/** A folder of a backup; `/` is the beginning. */
export function useBackupFolder(node: string | undefined, volid: string, folder: string) {
  const storage = storageOf(volid);
  return useQuery({
    queryKey: ["backup-files", node, volid, folder],
    enabled: node !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async () => {
      const params = { path: { node: node ?? "", storage }, query: { volume: volid, filepath: encodePath(folder) } };
      const call = api.GET("/api2/json/nodes/{node}/storage/{storage}/file-restore/list", { params });
      return (await answer<unknown>(call)) as readonly FileRow[];
    },
  });
}

/** The guest's options in a backup, as a text. */
export function useBackupConfig(node: string, volid: string) {
  return useQuery({
    queryKey: ["backup-files", node, volid, "config"],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async () => {
      const params = { path: { node }, query: { volume: volid } };
      return String(await answer<unknown>(api.GET("/api2/json/nodes/{node}/vzdump/extractconfig", { params })));
    },
  });
}

/** What pruning would do; without rules, by the storage's own. */
export function usePrunePreview({ node, storage, keep, vmid }: Pruning) {
  return useQuery({
    queryKey: ["storage", "prune", node, storage, keep, vmid],
    enabled: node !== "" && storage !== "",
    placeholderData: (before) => before,
    queryFn: async () => {
      const query = { ...(keep && { "prune-backups": keep }), ...(vmid !== undefined && { vmid }) };
      const params = { path: { node, storage }, query };
      const call = api.GET("/api2/json/nodes/{node}/storage/{storage}/prunebackups", { params });
      return (await answer<unknown>(call)) as readonly PruneRow[];
    },
  });
}

/** Where a backup goes when nobody says, and what holds then. */
export function useBackupDefaults(node: string | undefined) {
  return useQuery({
    queryKey: ["storage", "vzdump-defaults", node],
    enabled: node !== undefined,
    queryFn: async () => {
      const params = { path: { node: node ?? "" } };
      const call = api.GET("/api2/json/nodes/{node}/vzdump/defaults", { params });
      return (await answer<unknown>(call)) as { readonly storage?: string };
    },
  });
}
