/** A guest's snapshots, and the options that one keeps. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { SnapshotRow } from "../logic/snapshots";
import type { GuestConfig, GuestRef } from "./guest";

export function useSnapshots({ node, type, vmid }: GuestRef) {
  return useQuery({
    queryKey: ["guests", vmid, "snapshots"],
    queryFn: async () => {
      const params = { path: { node, vmid } };
      const call =
        type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/snapshot", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/snapshot", { params });
      return (await answer<unknown>(call)) as readonly SnapshotRow[];
    },
  });
}

export function useSnapshotConfig({ node, type, vmid }: GuestRef, snapname: string) {
  return useQuery({
    queryKey: ["guests", vmid, "snapshots", snapname],
    queryFn: async () => {
      const params = { path: { node, vmid, snapname } };
      const call =
        type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config", { params });
      return (await answer<unknown>(call)) as GuestConfig;
    },
  });
}

/** Whether all of a guest's volumes are on storages that have snapshots; undefined while it is asked. */
export function useCanSnapshot({ node, type, vmid }: GuestRef): boolean | undefined {
  const { data } = useQuery({
    queryKey: ["guests", vmid, "feature", "snapshot"],
    queryFn: async () => {
      const params = { path: { node, vmid }, query: { feature: "snapshot" as const } };
      const call =
        type === "lxc"
          ? api.GET("/api2/json/nodes/{node}/lxc/{vmid}/feature", { params })
          : api.GET("/api2/json/nodes/{node}/qemu/{vmid}/feature", { params });
      return (await answer<unknown>(call)) as { hasFeature: number | boolean };
    },
  });
  return data && Boolean(data.hasFeature);
}
