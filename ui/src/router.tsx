/** The places of the page, each with an address of its own. Pages are loaded when they are first opened. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { PageFault } from "./components/PageFault";
import { Shell } from "./components/Shell";
import { taskSearch } from "./logic/tasks";
import type { ArchitectSearch } from "./pages/architect/Architect";
import type { PlanSearch } from "./pages/architect/PlanPage";
import { NotFound } from "./pages/NotFound";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });

const overview = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/overview/Overview"), "Overview"),
});

const guest = createRoute({
  getParentRoute: () => root,
  path: "/guests/$vmid/$tab",
  component: lazyRouteComponent(() => import("./pages/guest/GuestPage"), "GuestPage"),
});

const guestAlone = createRoute({
  getParentRoute: () => root,
  path: "/guests/$vmid",
  beforeLoad: ({ params: { vmid } }) => {
    throw redirect({ to: "/guests/$vmid/$tab", params: { vmid, tab: "summary" }, replace: true });
  },
});

const tasks = createRoute({
  getParentRoute: () => root,
  path: "/tasks",
  validateSearch: taskSearch,
  component: lazyRouteComponent(() => import("./pages/tasks/TasksPage"), "TasksPage"),
});

const task = createRoute({
  getParentRoute: () => root,
  path: "/tasks/$upid",
  component: lazyRouteComponent(() => import("./pages/tasks/TaskPage"), "TaskPage"),
});

const backups = createRoute({
  getParentRoute: () => root,
  path: "/backups",
  component: lazyRouteComponent(() => import("./pages/backups/BackupsPage"), "BackupsPage"),
});

const createCt = createRoute({
  getParentRoute: () => root,
  path: "/create/ct",
  component: lazyRouteComponent(() => import("./pages/create/CreateCt"), "CreateCt"),
});

const createVm = createRoute({
  getParentRoute: () => root,
  path: "/create/vm",
  component: lazyRouteComponent(() => import("./pages/create/CreateVm"), "CreateVm"),
});

const architect = createRoute({
  getParentRoute: () => root,
  path: "/architect",
  component: lazyRouteComponent(() => import("./pages/architect/Architect"), "Architect"),
  validateSearch: (search: Record<string, unknown>) => search as ArchitectSearch,
});

const storages = createRoute({
  getParentRoute: () => root,
  path: "/storage",
  component: lazyRouteComponent(() => import("./pages/storage/StoragesPage"), "StoragesPage"),
});

const storage = createRoute({
  getParentRoute: () => root,
  path: "/storage/$storage",
  component: lazyRouteComponent(() => import("./pages/storage/StoragePage"), "StoragePage"),
});

const plan = createRoute({
  getParentRoute: () => root,
  path: "/architect/plan",
  component: lazyRouteComponent(() => import("./pages/architect/PlanPage"), "PlanPage"),
  validateSearch: (search: Record<string, unknown>) => search as PlanSearch,
});

const images = createRoute({
  getParentRoute: () => root,
  path: "/images",
  component: lazyRouteComponent(() => import("./pages/images/ImagesPage"), "ImagesPage"),
});

const catalogEntry = createRoute({
  getParentRoute: () => root,
  path: "/architect/catalog/$name",
  component: lazyRouteComponent(() => import("./pages/architect/CatalogPage"), "CatalogPage"),
});

const capacity = createRoute({
  getParentRoute: () => root,
  path: "/architect/capacity",
  component: lazyRouteComponent(() => import("./pages/architect/CapacityPage"), "CapacityPage"),
});

const review = createRoute({
  getParentRoute: () => root,
  path: "/architect/review",
  component: lazyRouteComponent(() => import("./pages/architect/ReviewPage"), "ReviewPage"),
});

const compare = createRoute({
  getParentRoute: () => root,
  path: "/architect/compare",
  component: lazyRouteComponent(() => import("./pages/architect/ComparePage"), "ComparePage"),
});

const backupsTab = createRoute({
  getParentRoute: () => root,
  path: "/backups/$tab",
  component: lazyRouteComponent(() => import("./pages/backups/BackupsPage"), "BackupsPage"),
});

const backupFiles = createRoute({
  getParentRoute: () => root,
  path: "/backups/files/$volid",
  validateSearch: ({ folder }: Record<string, unknown>): { folder?: string } => ({ folder: String(folder ?? "/") }),
  component: lazyRouteComponent(() => import("./pages/backups/BackupFiles"), "BackupFiles"),
});

const disks = createRoute({
  getParentRoute: () => root,
  path: "/disks",
  component: lazyRouteComponent(() => import("./pages/disks/DisksPage"), "DisksPage"),
});

const users = createRoute({
  getParentRoute: () => root,
  path: "/access",
  component: lazyRouteComponent(() => import("./pages/access/UsersPage"), "UsersPage"),
});

const tokens = createRoute({
  getParentRoute: () => root,
  path: "/access/tokens",
  component: lazyRouteComponent(() => import("./pages/access/TokensPage"), "TokensPage"),
});

const groups = createRoute({
  getParentRoute: () => root,
  path: "/access/groups",
  component: lazyRouteComponent(() => import("./pages/access/GroupsPage"), "GroupsPage"),
});

const roles = createRoute({
  getParentRoute: () => root,
  path: "/access/roles",
  component: lazyRouteComponent(() => import("./pages/access/RolesPage"), "RolesPage"),
});

const permissions = createRoute({
  getParentRoute: () => root,
  path: "/access/permissions",
  component: lazyRouteComponent(() => import("./pages/access/PermissionsPage"), "PermissionsPage"),
});

const realms = createRoute({
  getParentRoute: () => root,
  path: "/access/realms",
  component: lazyRouteComponent(() => import("./pages/access/RealmsPage"), "RealmsPage"),
});

const audit = createRoute({
  getParentRoute: () => root,
  path: "/access/audit",
  component: lazyRouteComponent(() => import("./pages/access/AuditPage"), "AuditPage"),
});

const pools = createRoute({
  getParentRoute: () => root,
  path: "/pools",
  component: lazyRouteComponent(() => import("./pages/pools/PoolsPage"), "PoolsPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([
    overview,
    guest,
    guestAlone,
    tasks,
    task,
    backups,
    backupsTab,
    backupFiles,
    createCt,
    createVm,
    architect,
    storages,
    storage,
    plan,
    images,
    catalogEntry,
    capacity,
    review,
    compare,
    disks,
    users,
    tokens,
    groups,
    roles,
    permissions,
    realms,
    audit,
    pools,
  ]),
  defaultPreload: "intent",
  defaultErrorComponent: PageFault,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
