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
import { cleanup, configure, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { queries } from "../src/hooks/queries";
import { GuestPage } from "../src/pages/guest/GuestPage";

const DOCUMENT = readFileSync("openapi.json", "utf8");

const ROW = {
  id: "qemu/101",
  type: "qemu",
  vmid: 101,
  node: "host",
  name: "<b>db</b>",
  status: "running",
  tags: "a;b",
};
const PENDING = [
  { key: "memory", value: 1024, pending: 2048 },
  { key: "cores", value: 2 },
  { key: "net0", value: "virtio=BC:24:11:00:00:01,bridge=vmbr0" },
  { key: "scsi0", value: "local:101/vm-101-disk-0.qcow2,size=8G" },
  { key: "ide2", value: "none,media=cdrom" },
  { key: "args", value: "-foo" },
];

configure({ asyncUtilTimeout: 8_000 });
vi.setConfig({ testTimeout: 20_000 });

let calls: { method: string; url: string; body: string }[] = [];

function answerTo(path: string): unknown {
  const answers: [RegExp, unknown][] = [
    [/cluster\/resources\?type=vm/, [ROW]],
    [
      /status\/current/,
      {
        status: "running",
        qmpstatus: "running",
        uptime: 90,
        cpu: 0.1,
        cpus: 2,
        mem: 1,
        maxmem: 2,
        pressurecpusome: 1.5,
      },
    ],
    [/\/pending/, PENDING],
    [/\/config/, { digest: "a".repeat(40), memory: 2048 }],
    [/\/snapshot/, [{ name: "current" }]],
    [/addresses/, ["10.0.0.2"]],
    [/bastide\/status/, { bridge: "vmbr0" }],
    [/\/network\?/, [{ iface: "vmbr0", type: "bridge" }]],
    [/interfaces/, { result: [{ name: "eth0", "ip-addresses": [{ "ip-address": "10.0.0.2", prefix: 24 }] }] }],
    [/dump/, "user: x\npassword: $5$aa\n"],
    [/guests\/101\/cloudinit/, {}],
  ];
  return answers.find(([pattern]) => pattern.test(path))?.[1] ?? [];
}

beforeEach(() => {
  calls = [];
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => {}, removeEventListener: () => {} }));
  vi.stubGlobal("fetch", async (input: Request | string) => {
    const request = input instanceof Request ? input : new Request(new URL(input, location.origin));
    calls.push({
      method: request.method,
      url: request.url,
      body: request.method === "GET" ? "" : await request.text(),
    });
    if (request.url.endsWith("/openapi.json")) {
      return new Response(DOCUMENT);
    }
    return Response.json({ data: answerTo(request.url.slice(location.origin.length)) });
  });
});

afterEach(() => {
  cleanup();
  queries.clear();
});

async function open(tab: string) {
  const root = createRootRoute();
  const guest = createRoute({ getParentRoute: () => root, path: "/guests/$vmid/$tab", component: GuestPage });
  const history = createMemoryHistory({ initialEntries: [`/guests/101/${tab}`] });
  const router = createRouter({ routeTree: root.addChildren([guest]), history });
  render(
    <MantineProvider env="test">
      <Notifications />
      <QueryClientProvider client={queries}>
        <RouterProvider router={router as never} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await screen.findByRole("heading", { level: 1, name: "<b>db</b>" });
}

describe("a guest's page", () => {
  test("tells its state, use and pressure", async () => {
    await open("summary");
    expect(await screen.findByText("10.0.0.2")).toBeTruthy();
    expect(await screen.findByText("1.5 %")).toBeTruthy();
    expect(screen.getByText("1 change waits for the next start")).toBeTruthy();
  });

  test("reverts what waits beside the present value", async () => {
    await open("hardware");
    const row = (await screen.findByText(/At the next start: 2 GiB/)).closest("tr") as HTMLElement;
    expect(within(row).getByText("1 GiB")).toBeTruthy();
    fireEvent.click(within(row).getByRole("button", { name: /Revert/ }));
    await waitFor(() => expect(calls.find((one) => one.method === "PUT")?.body).toBe("revert=memory"));
  });

  test("edits by a form of the schema, with what was there", async () => {
    await open("hardware");
    fireEvent.click(await screen.findByRole("button", { name: "Edit Memory" }));
    const field = (await screen.findByLabelText("Memory (MiB)")) as HTMLInputElement;
    expect(field.value).toBe("2048");
    fireEvent.change(field, { target: { value: "4096" } });
    fireEvent.click(screen.getByRole("button", { name: "Save" }));
    await waitFor(() => expect(calls.find((one) => one.method === "PUT")?.body).toContain("memory=4096"));
  });

  test("adds a network card", async () => {
    await open("network");
    expect(await screen.findByText("10.0.0.2/24")).toBeTruthy();
    fireEvent.click(await screen.findByRole("button", { name: "Add" }));
    fireEvent.click(await screen.findByRole("button", { name: "Save" }));
    await waitFor(() => {
      const body = new URLSearchParams(calls.find((one) => one.method === "PUT")?.body);
      expect(body.get("net1")).toBe("virtio,bridge=vmbr0");
    });
  });

  test("names what has no form", async () => {
    await open("options");
    expect(await screen.findByText("-foo")).toBeTruthy();
  });

  test("tells cloud-init's texts without passwords", async () => {
    await open("cloudinit");
    expect(await screen.findByText(/\(not shown\)/)).toBeTruthy();
    expect(document.body.textContent).not.toContain("$5$");
  });
});
