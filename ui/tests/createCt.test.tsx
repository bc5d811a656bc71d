import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import {
  createMemoryHistory,
  createRootRoute,
  createRoute,
  createRouter,
  RouterProvider,
} from "@tanstack/react-router";
import { cleanup, configure, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { queries } from "../src/hooks/queries";
import { CreateCt } from "../src/pages/create/CreateCt";

const text = { type: "string" };
const document_ = {
  paths: {
    "/api2/json/nodes/{node}/lxc": {
      post: {
        requestBody: {
          content: {
            "application/json": {
              schema: {
                properties: {
                  vmid: { type: "integer", minimum: 100 },
                  ostemplate: text,
                  hostname: { type: "string", maxLength: 5 },
                  memory: { type: "integer", minimum: 16 },
                  rootfs: {
                    type: "string",
                    "x-default-key": "volume",
                    "x-properties": { volume: text, ro: { type: "boolean" } },
                  },
                },
                patternProperties: { "^net\\d+$": { type: "string", "x-properties": { name: text, bridge: text } } },
                required: ["ostemplate", "vmid"],
              },
            },
          },
        },
      },
    },
  },
};

const IMAGE = "local:vztmpl/debian-12-standard_amd64.tar.zst";
const ANSWERS: Record<string, unknown> = {
  "/bastide/status": { version: "1", node: "one", bridge: "bastide0" },
  "/cluster/nextid": "104",
  "/nodes/one/storage": [
    { storage: "local", type: "dir", content: "rootdir,images,vztmpl", shared: 0, enabled: 1, active: 1, avail: 1e10 },
  ],
  "/nodes/one/network": [{ iface: "bastide0", type: "bridge", cidr: "10.0.0.1/24" }],
  "/bastide/images": [{ volid: IMAGE, type: "lxc", storage: "local", name: "debian", size: 1, alias: "debian-12" }],
  "/bastide/images/buildable": [],
  "/nodes/one/status": { cpuinfo: { cpus: 4 } },
  "/pools": [],
};

// A whole page on a machine that is busy with other things.
vi.setConfig({ testTimeout: 60_000 });
configure({ asyncUtilTimeout: 20_000 });

let posted: { path: string; body: URLSearchParams }[] = [];
let refusal: { status: number; body: unknown } | undefined;

function json(body: unknown, status = 200): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

async function answer(input: Request | string | URL): Promise<Response> {
  const request = new Request(input instanceof Request ? input : new URL(String(input), "http://localhost:3000"));
  const path = new URL(request.url).pathname.replace("/api2/json", "");
  if (path === "/openapi.json") {
    return json(document_);
  }
  if (request.method === "POST") {
    posted.push({ path, body: new URLSearchParams(await request.text()) });
    return refusal ? json(refusal.body, refusal.status) : json({ data: null });
  }
  return path in ANSWERS ? json({ data: ANSWERS[path] }) : json({ data: null, message: `no ${path}` }, 501);
}

async function open(address: string) {
  const root = createRootRoute();
  const create = createRoute({ getParentRoute: () => root, path: "/create/ct", component: CreateCt });
  const guest = createRoute({ getParentRoute: () => root, path: "/guests/$vmid/$tab", component: () => <p>made</p> });
  const router = createRouter({
    routeTree: root.addChildren([create, guest]),
    history: createMemoryHistory({ initialEntries: [address] }),
  });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>
        <RouterProvider router={router as never} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await screen.findByRole("heading", { name: "Create CT", level: 1 });
  await screen.findByLabelText(/^VMID/);
}

beforeEach(() => {
  posted = [];
  refusal = undefined;
  queries.clear();
  vi.stubGlobal("fetch", answer);
  // What grows with its text listens to fonts, which happy-dom does not have.
  Object.defineProperty(document, "fonts", { configurable: true, value: new EventTarget() });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

it("makes a CT by Review and Create, of what the host has", async () => {
  await open("/create/ct?hostname=web");
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByText("made");
  expect(posted[0]?.path).toBe("/nodes/one/lxc");
  expect(Object.fromEntries(posted[0]?.body ?? [])).toEqual({
    vmid: "104",
    hostname: "web",
    ostemplate: IMAGE,
    rootfs: "local:8",
    memory: "1024",
    unprivileged: "1",
    features: "nesting=1",
    net0: "name=eth0,bridge=bastide0,ip=dhcp,ip6=auto",
    start: "1",
  });
});

it("does not send what the schema refuses, and shows the step", async () => {
  await open("/create/ct?hostname=longer-than-five");
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByText("must have at most 5 characters");
  expect(screen.getByRole("heading", { level: 2 }).textContent).toBe("General");
  expect(posted).toEqual([]);
});

it("puts what the API refuses beside its field and keeps what was typed", async () => {
  refusal = {
    status: 400,
    body: { data: null, message: "Parameter verification failed.", errors: { vmid: "is taken" } },
  };
  await open("/create/ct");
  fireEvent.change(screen.getByLabelText(/^VMID/), { target: { value: "105" } });
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByRole("alert");
  fireEvent.click(screen.getByRole("button", { name: /General/ }));
  await screen.findByText("is taken");
  await waitFor(() => expect((screen.getByLabelText(/^VMID/) as HTMLInputElement).value).toBe("105"));
});
