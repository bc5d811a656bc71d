import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { cleanup, configure, fireEvent, render, screen, waitFor } from "@testing-library/react";
import axe from "axe-core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { queries } from "../src/hooks/queries";
import { router } from "../src/router";

// A machine may have other work.
configure({ asyncUtilTimeout: 30_000 });
vi.setConfig({ testTimeout: 240_000 });

const GUESTS = [
  { id: "lxc/100", type: "lxc", vmid: 100, node: "pve", name: "<b>web</b>", status: "running", maxmem: 1 },
  { id: "qemu/101", type: "qemu", vmid: 101, node: "pve", name: "db", status: "stopped", maxmem: 1 },
];
const ANSWERS: Readonly<Record<string, unknown>> = {
  "/cluster/resources?type=vm": GUESTS,
  "/cluster/resources?type=node": [{ id: "node/pve", type: "node", node: "pve", status: "online" }],
  "/cluster/resources?type=storage": [
    {
      id: "storage/pve/local",
      type: "storage",
      storage: "local",
      node: "pve",
      status: "available",
      content: "iso",
      plugintype: "dir",
      disk: 97,
      maxdisk: 100,
    },
  ],
  "/bastide/guests": [{ vmid: 101, onboot: 1, addresses: [] }],
  "/bastide/status": { node: "pve", version: "1", accelerator: "tcg", emulation: "no /dev/kvm" },
  "/nodes/pve/status": {
    cpu: 0.1,
    loadavg: ["0.1", "0.2", "0.3"],
    uptime: 60,
    cpuinfo: { cpus: 2 },
    memory: { used: 1, total: 2 },
    rootfs: { used: 1, total: 2 },
  },
};

function answerOf(request: Request): Response {
  const url = new URL(request.url);
  const path = url.pathname.replace("/api2/json", "");
  const data = ANSWERS[`${path}${url.search}`] ?? ANSWERS[path] ?? [];
  return new Response(JSON.stringify({ data }), { headers: { "content-type": "application/json" } });
}

// There is no layout here, without which no row is in sight.
const HIGH = { configurable: true, get: () => 600 };
for (const { prototype } of [Element, HTMLElement]) {
  Object.defineProperty(prototype, "clientHeight", HIGH);
  Object.defineProperty(prototype, "clientWidth", HIGH);
}

class Watcher {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}

class Stream {
  close(): void {}
}

beforeEach(() => {
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("ResizeObserver", Watcher);
  vi.stubGlobal("scrollTo", () => undefined);
  vi.stubGlobal("fetch", async (request: Request) => answerOf(request));
});
afterEach(() => {
  cleanup();
  queries.clear();
  vi.unstubAllGlobals();
});

function show(): void {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>,
  );
}

/** What axe finds, without what needs a layout. */
async function faults(): Promise<string[]> {
  const { violations } = await axe.run(document.body, { rules: { "color-contrast": { enabled: false } } });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("\n")}`);
}

describe("the overview in its frame", () => {
  it("says what needs attention, with a way to act", async () => {
    show();
    expect(await screen.findByRole("heading", { level: 1, name: "Overview" })).toBeTruthy();
    expect(await screen.findByText("Storage local is 97 % full")).toBeTruthy();
    expect(screen.getByText("VMs are emulated without KVM")).toBeTruthy();
    expect(screen.getByText("db is stopped")).toBeTruthy();
    expect(screen.getByRole("button", { name: "Start db" })).toBeTruthy();
    await waitFor(() => expect(document.title).toBe("Overview – Bastide"));
  });
  it("has the three ways to a guest, the tree and the tasks", async () => {
    show();
    for (const name of ["Create VM", "Create CT", "What do you want to run?"]) {
      expect((await screen.findAllByRole("link", { name })).length).toBeGreaterThan(0);
    }
    expect(screen.getByRole("tree")).toBeTruthy();
    const tasks = screen.getByRole("button", { name: /Tasks/ });
    fireEvent.click(tasks);
    expect(await screen.findByText("No task has been run yet.")).toBeTruthy();
  });
  it("shows what guests are called as text", async () => {
    show();
    expect((await screen.findAllByText("<b>web</b>")).length).toBeGreaterThan(0);
    expect(document.querySelector("main b, [role=tree] b")).toBeNull();
  });
  it("does something with several guests at once, and says what first", async () => {
    show();
    fireEvent.click(await screen.findByRole("checkbox", { name: "Choose all that are shown" }));
    const chosen = await screen.findByRole("group", { name: "Chosen guests" });
    expect(chosen.textContent).toContain("2 chosen");
    fireEvent.click(screen.getByRole("button", { name: "Stop <b>web</b>" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog.textContent).toContain("what is not written to disk is lost");
    expect(dialog.textContent).toContain("bastide api create /nodes/pve/stopall vms=100 force-stop=1 timeout=60");
  });
  it("is walked through by keys", async () => {
    show();
    const tree = await screen.findByRole("tree");
    await screen.findByRole("treeitem", { name: "VM 101 db, stopped" });
    tree.focus();
    fireEvent.keyDown(tree, { key: "End" });
    fireEvent.keyDown(tree, { key: "Enter" });
    await waitFor(() => expect(router.state.location.pathname).toBe("/guests/101/summary"));
    router.history.push("/");
    await screen.findByRole("heading", { level: 1, name: "Overview" });
  });
  it("has nothing that axe finds serious", async () => {
    show();
    await screen.findByRole("treeitem", { name: "VM 101 db, stopped" });
    await screen.findByText("Storage local is 97 % full");
    fireEvent.click(screen.getByRole("button", { name: /^Tasks/ }));
    expect(await faults()).toEqual([]);
    fireEvent.click(screen.getByRole("button", { name: /^Search or do/ }));
    await screen.findByRole("dialog", { name: "Search" });
    expect(await faults()).toEqual([]);
  });
});
