/** The places of the page, each with an address of its own. Pages are loaded when they are first opened. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { Shell } from "./components/Shell";
import { NotFound } from "./pages/NotFound";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });

const overview = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/Overview"), "Overview"),
});

const guest = createRoute({
  getParentRoute: () => root,
  path: "/guests/$vmid/$tab",
  component: lazyRouteComponent(() => import("./pages/guest/GuestPage"), "GuestPage"),
});

export const router = createRouter({ routeTree: root.addChildren([overview, guest]), defaultPreload: "intent" });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
