/** What a VM's guest agent tells of its system. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { type SystemTold, systemOf } from "../logic/agentAnswers";
import type { GuestRef } from "./guest";

async function read({ node, vmid }: GuestRef): Promise<SystemTold> {
  const params = { path: { node, vmid } };
  const [os, name, filesystems] = (await Promise.all([
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-osinfo", { params })),
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-host-name", { params })),
    answer<unknown>(api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/get-fsinfo", { params })),
  ])) as { result: unknown }[];
  return systemOf(os?.result, name?.result, filesystems?.result);
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
