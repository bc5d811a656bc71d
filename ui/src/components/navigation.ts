/** The places that the side of the page leads to, in order. */
import {
  IconCompass,
  IconDatabase,
  IconHistory,
  IconLayoutDashboard,
  IconListCheck,
  IconPhoto,
  IconServer,
  IconStack2,
  IconUsers,
} from "@tabler/icons-react";
import type { ComponentType } from "react";

export interface Place {
  readonly label: string;
  readonly to: string;
  readonly icon: ComponentType<{ size?: number | string }>;
}

export const places: readonly Place[] = [
  { label: "Overview", to: "/", icon: IconLayoutDashboard },
  { label: "Storage", to: "/storage", icon: IconDatabase },
  { label: "Images", to: "/images", icon: IconPhoto },
  { label: "Disks", to: "/disks", icon: IconServer },
  { label: "Backups", to: "/backups", icon: IconHistory },
  { label: "Architect", to: "/architect", icon: IconCompass },
  { label: "Pools", to: "/pools", icon: IconStack2 },
  { label: "Access", to: "/access", icon: IconUsers },
  { label: "Tasks", to: "/tasks", icon: IconListCheck },
];

/** The ways to a new guest. */
export const ways = [
  { label: "Create VM", to: "/create/vm" },
  { label: "Create CT", to: "/create/ct" },
  { label: "What do you want to run?", to: "/architect" },
] as const;
