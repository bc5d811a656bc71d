/** The interfaces of a running guest, as a container's kernel or a VM's agent tells them. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { GuestRef } from "./guest";

export interface SeenInterface {
  readonly name: string;
  readonly hwaddr?: string | undefined;
  readonly addresses: readonly string[];
  readonly received?: number | undefined;
  readonly sent?: number | undefined;
}

interface Told {
  readonly name: string;
  readonly "hardware-address"?: string;
  readonly "ip-addresses"?: readonly { readonly "ip-address": string; readonly prefix: number }[];
  readonly statistics?: Readonly<Record<string, number>>;
}

function seen(row: Told): SeenInterface {
  return {
    name: row.name,
    hwaddr: row["hardware-address"],
    addresses: (row["ip-addresses"] ?? []).map((one) => `${one["ip-address"]}/${one.prefix}`),
    received: row.statistics?.["rx-bytes"],
    sent: row.statistics?.["tx-bytes"],
  };
}

async function read({ node, vmid, type }: GuestRef): Promise<SeenInterface[]> {
  const params = { path: { node, vmid } };
  if (type === "lxc") {
    const rows = await answer<unknown>(api.GET("/api2/json/nodes/{node}/lxc/{vmid}/interfaces", { params }));
    return (rows as readonly Told[]).map(seen);
  }
  const told = await answer<unknown>(
    api.GET("/api2/json/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", { params }),
  );
  return (told as { result: readonly Told[] }).result.map(seen);
}

export function useInterfaces(guest: GuestRef) {
  return useQuery({
    queryKey: ["guests", guest.vmid, "interfaces"],
    queryFn: () => read(guest),
    refetchInterval: 10_000,
  });
}
