/** A node's own disks, and the storages that were made on them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { ApiError } from "../api/errors";
import type { MadeRow } from "../logic/disks";

export interface DiskRow {
  readonly devpath: string;
  readonly size: number;
  readonly type: string;
  readonly used?: string;
  readonly mounted?: number;
  readonly model?: string;
  readonly serial?: string;
  readonly vendor?: string;
  readonly health?: string;
  readonly wearout?: string | number;
  readonly parent?: string;
  readonly gpt?: number;
}

export interface SmartFacts {
  readonly health: string;
  readonly type?: "text" | "ata";
  readonly text?: string;
  readonly attributes?: readonly {
    readonly id: string;
    readonly name: string;
    readonly value: number;
    readonly worst: number;
    readonly threshold: number;
    readonly raw: string;
    readonly fail: string;
  }[];
}

export function useDisks(node: string | undefined) {
  return useQuery({
    queryKey: ["nodes", node, "disks"],
    queryFn: async () => {
      const params = { path: { node: node ?? "" }, query: { "include-partitions": true } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/list", { params }))) as DiskRow[];
    },
    enabled: node !== undefined,
  });
}

export function useSmart(node: string, disk: string) {
  return useQuery({
    queryKey: ["nodes", node, "smart", disk],
    queryFn: async () => {
      const params = { path: { node }, query: { disk } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/smart", { params }))) as SmartFacts;
    },
  });
}

/** What was made of disks, and what the host says of kinds that it cannot tell of: a tool that it has not, for example. */
export interface Made {
  readonly rows: readonly MadeRow[];
  readonly reasons: readonly string[];
}

async function toldOf(rows: Promise<MadeRow[]>): Promise<Made> {
  try {
    return { rows: await rows, reasons: [] };
  } catch (error) {
    if (error instanceof ApiError && error.status !== 403) {
      return { rows: [], reasons: [error.message] };
    }
    throw error;
  }
}

interface Groups {
  readonly children: readonly { name: string; size: number; free: number; children?: readonly { name: string }[] }[];
}
interface ThinPool {
  readonly lv: string;
  readonly vg: string;
  readonly lv_size: number;
  readonly used: number;
}
interface Pool {
  readonly name: string;
  readonly size: number;
  readonly free: number;
  readonly health: string;
}

async function made(node: string): Promise<Made> {
  const params = { path: { node } };
  const folders = answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/directory", { params })) as Promise<
    { path: string; device: string }[]
  >;
  const groups = answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/lvm", { params })) as Promise<Groups>;
  const thin = answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/lvmthin", { params })) as Promise<ThinPool[]>;
  const pools = answer<unknown>(api.GET("/api2/json/nodes/{node}/disks/zfs", { params })) as Promise<Pool[]>;
  const all = await Promise.all([
    toldOf(
      folders.then((rows) =>
        rows.map((row) => ({
          kind: "directory" as const,
          name: row.path.split("/").at(-1) ?? row.path,
          of: `${row.device} at ${row.path}`,
        })),
      ),
    ),
    toldOf(
      groups.then((tree) =>
        tree.children.map(({ name, size, free, children = [] }) => ({
          kind: "lvm" as const,
          name,
          size,
          free,
          of: children.map((one) => one.name).join(", "),
        })),
      ),
    ),
    toldOf(
      thin.then((rows) =>
        rows.map((row) => ({
          kind: "lvmthin" as const,
          name: row.lv,
          group: row.vg,
          size: row.lv_size,
          free: row.lv_size - row.used,
          of: `the volume group ${row.vg}`,
        })),
      ),
    ),
    toldOf(pools.then((rows) => rows.map((row) => ({ kind: "zfs" as const, ...row, of: row.health })))),
  ]);
  return { rows: all.flatMap((one) => one.rows), reasons: all.flatMap((one) => one.reasons) };
}

/** What was made of disks: folders, volume groups, thin pools, ZFS pools. */
export function useMade(node: string | undefined) {
  return useQuery({
    queryKey: ["nodes", node, "made"],
    queryFn: () => made(node ?? ""),
    // A tool that is not installed is not asked for again whenever somebody looks.
    staleTime: 300_000,
    enabled: node !== undefined,
  });
}
