/** A page of ours over a host that answers from a table. */
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import {
  createMemoryHistory,
  createRootRoute,
  createRoute,
  createRouter,
  RouterProvider,
} from "@tanstack/react-router";
import { cleanup, configure, render } from "@testing-library/react";
import axe from "axe-core";
import type { ReactNode } from "react";
import { afterEach, beforeEach, expect, vi } from "vitest";
import { queries } from "../src/hooks/queries";
import { theme } from "../src/theme";

// A whole page on a machine that is busy with other things.
vi.setConfig({ testTimeout: 60_000 });
configure({ asyncUtilTimeout: 20_000 });

export interface Posted {
  readonly method: string;
  readonly path: string;
  readonly body: Readonly<Record<string, string>>;
}

export interface Hosted {
  /** What is answered to a GET, by path. */
  answers: Record<string, unknown>;
  /** The OpenAPI document's paths. */
  paths: Record<string, unknown>;
  /** What was called to change something. */
  posted: Posted[];
  /** How those are answered, by method and path; null when nothing is said. */
  results: Record<string, unknown>;
  refusal: { status: number; body: unknown } | undefined;
}

export const IMAGE = "local:vztmpl/debian-12-standard_amd64.tar.zst";
export const DISK = "local:import/debian-12.qcow2";

function facts(): Record<string, unknown> {
  return {
    "/bastide/status": { version: "1", node: "one", bridge: "bastide0", accelerator: "kvm" },
    "/cluster/nextid": "104",
    "/cluster/resources": [],
    "/nodes/one/storage": [
      {
        storage: "local",
        type: "dir",
        content: "import,iso,rootdir,images,vztmpl",
        shared: 0,
        enabled: 1,
        active: 1,
        avail: 1e10,
        used: 19e10,
        total: 2e11,
      },
    ],
    "/nodes/one/network": [{ iface: "bastide0", type: "bridge", cidr: "10.0.0.1/24" }],
    "/nodes/one/capabilities/qemu/cpu": [{ name: "host" }],
    "/bastide/images": [
      { volid: IMAGE, type: "lxc", storage: "local", name: "debian.tar.zst", size: 1, alias: "debian-12" },
      { volid: DISK, type: "qemu", storage: "local", name: "debian-12.qcow2", size: 1, cloudinit: 1 },
    ],
    "/bastide/images/buildable": [{ name: "debian-12", type: "lxc" }],
    "/bastide/image-servers": [{ server: "images", url: "https://images.test/" }],
    "/nodes/one/aplinfo": [{ template: "debian-12_amd64.tar.zst", headline: "Debian 12", source: "host" }],
    "/nodes/one/status": { cpuinfo: { cpus: 4 } },
    "/pools": [],
  };
}

function json(body: unknown, status = 200): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

/** Answers while each test of a file runs. */
export function answering(): Hosted {
  const hosted: Hosted = { answers: {}, paths: {}, posted: [], results: {}, refusal: undefined };

  async function answer(input: Request | string | URL): Promise<Response> {
    const request = new Request(input instanceof Request ? input : new URL(String(input), "http://localhost:3000"));
    const path = decodeURIComponent(new URL(request.url).pathname.replace("/api2/json", ""));
    if (path === "/openapi.json") {
      return json({ paths: hosted.paths });
    }
    if (request.method !== "GET") {
      const body = Object.fromEntries(new URLSearchParams(await request.text()));
      hosted.posted.push({ method: request.method, path, body });
      const result = hosted.results[`${request.method} ${path}`] ?? null;
      return hosted.refusal ? json(hosted.refusal.body, hosted.refusal.status) : json({ data: result });
    }
    return path in hosted.answers
      ? json({ data: hosted.answers[path] })
      : json({ data: null, message: `no ${path}` }, 501);
  }

  beforeEach(() => {
    Object.assign(hosted, { answers: facts(), posted: [], results: {}, refusal: undefined });
    queries.clear();
    vi.stubGlobal("fetch", answer);
    // What grows with its text listens to fonts, which happy-dom does not have.
    Object.defineProperty(document, "fonts", { configurable: true, value: new EventTarget() });
  });
  afterEach(() => {
    cleanup();
    vi.unstubAllGlobals();
  });
  return hosted;
}

export function openPage(page: () => ReactNode, path: string, address = path): void {
  const root = createRootRoute();
  const shown = createRoute({ getParentRoute: () => root, path, component: page });
  const guest = createRoute({ getParentRoute: () => root, path: "/guests/$vmid/$tab", component: () => <p>made</p> });
  const router = createRouter({
    routeTree: root.addChildren([shown, guest]),
    history: createMemoryHistory({ initialEntries: [address] }),
  });
  render(
    <MantineProvider env="test" theme={theme}>
      <QueryClientProvider client={queries}>
        <main>
          <RouterProvider router={router as never} />
        </main>
      </QueryClientProvider>
    </MantineProvider>,
  );
}

/** Serious faults by axe of what is on the page; colours need a browser. */
export async function expectAccessible(): Promise<void> {
  document.documentElement.lang = "en";
  const { violations } = await axe.run(document.body, { rules: { "color-contrast": { enabled: false } } });
  const found = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
}
