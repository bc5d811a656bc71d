import { describe, expect, it } from "vitest";
import { hits } from "../src/logic/palette";
import { step } from "../src/logic/treeKeys";

const searched = {
  guests: [
    { vmid: 100, node: "pve", type: "lxc", name: "web", status: "running", tags: "prod" },
    { vmid: 101, node: "pve", type: "qemu", name: "stop-motion", status: "stopped" },
  ],
  addresses: new Map([[100, ["10.0.0.7"]]]),
  storages: [{ storage: "local", plugintype: "dir" }],
  pages: [{ label: "Tasks", to: "/tasks" }],
} as const;

const labels = (query: string) => hits(query, searched).map(({ group, label }) => `${group}: ${label}`);

describe("the command palette", () => {
  it("shows some of everything before a word", () => {
    expect(labels("")).toEqual(["Guests: web", "Guests: stop-motion", "Storages: local", "Pages: Tasks"]);
  });
  it("finds guests by name, id, kind, tag and address", () => {
    for (const query of ["web", "100", "ct", "prod", "10.0.0"]) {
      expect(labels(query)).toContain("Guests: web");
    }
    expect(labels("nothing")).toEqual([]);
  });
  it("offers what can be done with a guest, by what it does now", () => {
    expect(labels("stop web")).toContain("Actions: Stop web");
    expect(labels("start web")).not.toContain("Actions: Start web");
    expect(labels("sta stop-motion")).toContain("Actions: Start stop-motion");
    expect(labels("shut 100")).toContain("Actions: Shut down web");
  });
  it("asks before what cuts off", () => {
    const [stop] = hits("stop web", searched).filter(({ label }) => label === "Stop web");
    expect(stop?.action?.danger).toBe(true);
  });
});

describe("keys in the tree", () => {
  const rows = [
    { label: "pve", level: 1, open: true },
    { label: "Storages", level: 2, open: false },
    { label: "Guests", level: 2, open: true },
    { label: "100 web", level: 3 },
    { label: "101 db", level: 3 },
  ];
  it("goes up and down and stays within", () => {
    expect(step(rows, 0, "ArrowUp")).toEqual({ index: 0 });
    expect(step(rows, 4, "ArrowDown")).toEqual({ index: 4 });
    expect(step(rows, 1, "End")).toEqual({ index: 4 });
    expect(step(rows, 4, "Home")).toEqual({ index: 0 });
  });
  it("opens, enters, closes and leaves", () => {
    expect(step(rows, 1, "ArrowRight")).toEqual({ index: 1, toggle: true });
    expect(step(rows, 2, "ArrowRight")).toEqual({ index: 3 });
    expect(step(rows, 3, "ArrowRight")).toEqual({ index: 3 });
    expect(step(rows, 2, "ArrowLeft")).toEqual({ index: 2, toggle: true });
    expect(step(rows, 4, "ArrowLeft")).toEqual({ index: 2 });
    expect(step(rows, 1, "ArrowLeft")).toEqual({ index: 0 });
  });
  it("finds by the first character and leaves other keys alone", () => {
    expect(step(rows, 0, "g")).toEqual({ index: 2 });
    expect(step(rows, 3, "1")).toEqual({ index: 4 });
    expect(step(rows, 4, "1")).toEqual({ index: 3 });
    expect(step(rows, 0, "Tab")).toBeUndefined();
  });
});
