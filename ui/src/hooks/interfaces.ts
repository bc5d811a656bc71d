/** The interfaces of a running guest, as a container's kernel or a VM's agent tells them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import { interfacesOf, type SeenInterface } from "../logic/agentAnswers";
import type { GuestRef } from "./guest";

async function read({ node, vmid, type }: GuestRef): Promise<SeenInterface[]> {
  const params = { path: { node, vmid } };
  if (type === "lxc") {
    return interfacesOf(await answer<unknown>(api.GET("/api2/json/nodes/{node}/lxc/{vmid}/interfaces", { params })));
  }
  const told = await answer<unknown>(
    api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", { params }),
  );
  return interfacesOf((told as { result: unknown }).result);
}

export function useInterfaces(guest: GuestRef) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "interfaces"],
    queryFn: () => read(guest),
    refetchInterval: 10_000,
  });
}
