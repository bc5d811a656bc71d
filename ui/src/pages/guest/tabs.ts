/** The places of a guest, each at /guests/$vmid/$tab. What they show is loaded when they are first opened. */
import { type ComponentType, lazy } from "react";
import type { GuestRow } from "../../hooks/resources";

type Content = ComponentType<{ guest: GuestRow }>;

export interface GuestTab {
  readonly name: string;
  readonly label: string;
  readonly Content: Content;
}

function tab(name: string, label: string, load: () => Promise<Content>): GuestTab {
  return { name, label, Content: lazy(async () => ({ default: await load() })) };
}

const summary = tab("summary", "Summary", async () => (await import("./Summary")).Summary);
const console = tab("console", "Console", async () => (await import("./Console")).Console);
const hardware = async () => (await import("./Hardware")).Hardware;
const options = tab("options", "Options", async () => (await import("./Options")).Options);
const network = tab("network", "Network", async () => (await import("./Network")).Network);
const cloudInit = tab("cloudinit", "Cloud-init", async () => (await import("./CloudInit")).CloudInit);
const snapshots = tab("snapshots", "Snapshots", async () => (await import("./Snapshots")).Snapshots);
const backups = tab("backups", "Backups", async () => (await import("./Backups")).Backups);
const notes = tab("notes", "Notes", async () => (await import("./Notes")).Notes);
const permissions = tab("permissions", "Permissions", async () => (await import("./Permissions")).Permissions);
const tasks = tab("tasks", "Tasks", async () => (await import("./Tasks")).Tasks);

function tabs(hardwareLabel: string): readonly GuestTab[] {
  return [
    summary,
    console,
    tab("hardware", hardwareLabel, hardware),
    options,
    network,
    cloudInit,
    snapshots,
    backups,
    notes,
    permissions,
    tasks,
  ];
}

export const TABS = { lxc: tabs("Resources"), qemu: tabs("Hardware") } as const;
