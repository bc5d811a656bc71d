/** What the host has for a new guest; undefined until all of it is known. */
import { useBridges, useCpuModels, useDaemon, useNextId, useNodeCpus } from "../../hooks/creating";
import { useImages } from "../../hooks/images";
import { type StorageStatus, useNodeStorages } from "../../hooks/storage";
import type { HostFacts } from "../../logic/creating";

export interface Host extends HostFacts {
  readonly node: string;
}

function takes(row: StorageStatus, content: string): boolean {
  return Boolean(row.active && row.enabled) && row.content.split(",").includes(content);
}

/** `local` where it takes them, else the one with the most space. */
function preferred(rows: readonly StorageStatus[], content: string): string {
  const fit = rows.filter((row) => takes(row, content));
  const largest = fit.toSorted((one, other) => (other.avail ?? 0) - (one.avail ?? 0))[0];
  return (fit.find((row) => row.storage === "local") ?? largest)?.storage ?? "";
}

export function useHost(kind: "lxc" | "qemu"): { host?: Host; error: Error | null } {
  const daemon = useDaemon();
  const node = daemon.data?.node;
  const nextId = useNextId();
  const storages = useNodeStorages(node);
  const bridges = useBridges(node);
  const images = useImages();
  const cpus = useNodeCpus(node);
  const models = useCpuModels(kind === "qemu" ? node : undefined);
  const error = daemon.error ?? nextId.error ?? storages.error ?? images.error;
  const waiting = kind === "qemu" && models.isPending;
  if (
    node === undefined ||
    nextId.data === undefined ||
    !storages.data ||
    bridges.isPending ||
    !images.data ||
    waiting
  ) {
    return { error };
  }
  const host: Host = {
    node,
    vmid: nextId.data,
    bridge: daemon.data?.bridge ?? bridges.data?.[0]?.iface ?? "vmbr0",
    storage: preferred(storages.data, kind === "lxc" ? "rootdir" : "images"),
    cpus,
    hostCpu: models.data?.some((row) => row.name === "host") ?? false,
    image: images.data.find((row) => row.type === kind)?.volid,
  };
  return { host, error };
}

/** Where files of a content can be kept; empty where no storage takes them. */
export function useFileStorage(content: "import" | "iso" | "vztmpl"): string {
  return preferred(useNodeStorages(useDaemon().data?.node).data ?? [], content);
}

/** Where images can be kept. */
export function useImageStorage(kind: "lxc" | "qemu"): string {
  return useFileStorage(kind === "lxc" ? "vztmpl" : "import") || "local";
}
