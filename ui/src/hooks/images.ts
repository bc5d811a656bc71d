/** Images: what guests are made from, and where more can be had. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface ImageRow {
  readonly volid: string;
  readonly type: "lxc" | "qemu";
  readonly storage: string;
  readonly name: string;
  readonly size: number;
  readonly format?: string;
  readonly ctime?: number;
  readonly built?: number;
  readonly alias?: string;
  readonly distribution?: string;
  readonly release?: string;
  readonly architecture?: string;
  readonly source?: string;
  readonly packages?: number;
  readonly cloudinit?: number;
}

export interface BuildableRow {
  readonly name: string;
  readonly type: "lxc" | "qemu";
}

export interface ServerRow {
  readonly server: string;
  readonly url: string;
}

/** A template that can be had: built here, or pulled from an image server. */
export interface TemplateRow {
  readonly template: string;
  readonly package?: string;
  readonly headline?: string;
  readonly os?: string;
  readonly version?: string;
  readonly architecture?: string;
  readonly source?: string;
  readonly section?: string;
}

export function useImages() {
  return useQuery({
    queryKey: ["storage", "images"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/images"))) as ImageRow[],
  });
}

export function useBuildable() {
  return useQuery({
    queryKey: ["document", "buildable"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/images/buildable"))) as BuildableRow[],
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function useImageServers() {
  return useQuery({
    queryKey: ["storage", "image-servers"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/image-servers"))) as ServerRow[],
  });
}

/** The templates that can be had, image servers asked anew: slow where one is far. */
export function useTemplates(node: string | undefined, enabled = true) {
  return useQuery({
    queryKey: ["templates", node],
    queryFn: async () => {
      const params = { path: { node: node ?? "" } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/aplinfo", { params }))) as TemplateRow[];
    },
    enabled: enabled && node !== undefined,
    staleTime: 600_000,
  });
}
