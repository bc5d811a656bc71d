/** What a VM's guest agent tells of its system. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { GuestRef } from "./guest";

export interface OsInfo {
  readonly "pretty-name"?: string;
  readonly name?: string;
  readonly version?: string;
  readonly "kernel-release"?: string;
  readonly machine?: string;
}

export interface FileSystem {
  readonly mountpoint: string;
  readonly type: string;
  readonly "used-bytes"?: number;
  readonly "total-bytes"?: number;
}

export interface Told {
  readonly os: OsInfo;
  readonly hostname: string;
  readonly filesystems: readonly FileSystem[];
}

async function read({ node, vmid }: GuestRef): Promise<Told> {
  const params = { path: { node, vmid } };
  const [os, name, filesystems] = (await Promise.all([
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-osinfo", { params })),
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-host-name", { params })),
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-fsinfo", { params })),
  ])) as [{ result: OsInfo }, { result: { "host-name": string } }, { result: readonly FileSystem[] }];
  return { os: os.result, hostname: name.result["host-name"], filesystems: filesystems.result };
}

/** Asked only where the VM is said to have an agent, which may still not answer. */
export function useAgent(guest: GuestRef, wanted: boolean) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "agent"],
    queryFn: () => read(guest),
    enabled: wanted,
    retry: false,
    staleTime: 30_000,
    refetchInterval: 60_000,
  });
}
