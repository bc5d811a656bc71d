/** The texts that cloud-init in a guest reads. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { GuestRef } from "./guest";

export type Part = "user" | "network" | "vendor" | "meta";
export type FullTexts = Readonly<Partial<Record<Part, string>>>;

/** The texts that were given in full, in place of what the options make. */
export function useFullTexts({ vmid }: GuestRef) {
  return useQuery({
    queryKey: ["guests", vmid, "cloudinit", "texts"],
    queryFn: async () => {
      const params = { path: { guest: String(vmid) } };
      return (await answer<unknown>(api.GET("/api2/json/bastide/guests/{guest}/cloudinit", { params }))) as FullTexts;
    },
  });
}

/** A text as a VM is told it. */
export function useToldText({ node, vmid }: GuestRef, type: Exclude<Part, "vendor">) {
  return useQuery({
    queryKey: ["guests", vmid, "cloudinit", "dump", type],
    queryFn: async () => {
      const params = { path: { node, vmid }, query: { type } };
      const call = api.GET("/api2/json/nodes/{node}/qemu/{vmid}/cloudinit/dump", { params });
      return (await answer<unknown>(call)) as string;
    },
  });
}
