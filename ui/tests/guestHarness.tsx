/** A guest's page with an API that answers what a test says and keeps what it was sent. */
import { readFileSync } from "node:fs";
import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import {
  createMemoryHistory,
  createRootRoute,
  createRoute,
  createRouter,
  RouterProvider,
} from "@tanstack/react-router";
import { cleanup, configure, render, screen } from "@testing-library/react";
import { afterEach, vi } from "vitest";
import { queries } from "../src/hooks/queries";
import { GuestPage } from "../src/pages/guest/GuestPage";

const DOCUMENT = readFileSync("openapi.json", "utf8");

configure({ asyncUtilTimeout: 20_000 });
vi.setConfig({ testTimeout: 60_000 });

export interface Sent {
  readonly method: string;
  readonly path: string;
  readonly body: URLSearchParams;
}

export interface Given {
  row: Readonly<Record<string, unknown>> & { name: string; vmid: number };
  status?: unknown;
  pending?: readonly unknown[];
  config?: unknown;
  others?: readonly [RegExp, unknown][];
}

const sent: Sent[] = [];

/** The calls that change something. */
export function changes(): readonly Sent[] {
  return sent.filter((one) => one.method !== "GET");
}

function answers({ row, status = row, pending = [], config, others = [] }: Given): [RegExp, unknown][] {
  return [
    ...others,
    [/cluster\/resources\?type=vm/, [row]],
    [/status\/current/, status],
    [/\/pending/, pending],
    [/\/config/, config ?? { digest: "a".repeat(40) }],
    [/\/snapshot/, [{ name: "current" }]],
    [/cluster\/nextid/, "105"],
    [/bastide\/status/, { bridge: "vmbr0" }],
    [/\/network\?/, [{ iface: "vmbr0", type: "bridge" }]],
    [/nodes\/host\/storage$/, [{ storage: "fast", active: 1, enabled: 1, content: "images,rootdir,iso", avail: 1e9 }]],
    [/guests\/\d+\/cloudinit/, {}],
  ];
}

function listen(given: Given): void {
  const known = answers(given);
  vi.stubGlobal("fetch", async (input: Request | string) => {
    const request = input instanceof Request ? input : new Request(new URL(input, location.origin));
    const path = request.url.slice(location.origin.length).replace("/api2/json", "");
    const body = request.method === "GET" ? "" : await request.text();
    sent.push({ method: request.method, path, body: new URLSearchParams(body) });
    if (path === "/openapi.json") {
      return new Response(DOCUMENT);
    }
    return Response.json({ data: known.find(([pattern]) => pattern.test(path))?.[1] ?? [] });
  });
}

// What is still shown when a file ends would be timed on after its window is gone.
afterEach(cleanup);

export async function open(tab: string, given: Given): Promise<void> {
  queries.clear();
  sent.length = 0;
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => {}, removeEventListener: () => {} }));
  // The tests' DOM has no fonts, whose loading a growing text field listens for.
  const fonts = { addEventListener: () => {}, removeEventListener: () => {} };
  Object.defineProperty(document, "fonts", { value: fonts, configurable: true });
  listen(given);
  const root = createRootRoute();
  const guest = createRoute({ getParentRoute: () => root, path: "/guests/$vmid/$tab", component: GuestPage });
  const history = createMemoryHistory({ initialEntries: [`/guests/${given.row.vmid}/${tab}`] });
  const router = createRouter({ routeTree: root.addChildren([guest]), history });
  render(
    <MantineProvider env="test">
      <Notifications />
      <QueryClientProvider client={queries}>
        <RouterProvider router={router as never} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await screen.findByRole("heading", { level: 1, name: given.row.name });
}
