import { describe, expect, it } from "vitest";
import { foundRows, openAtFirst, tagsOf, treeRows } from "../src/logic/tree";

const source = {
  nodes: [{ node: "pve", status: "online" }],
  guests: [
    { vmid: 101, node: "pve", type: "qemu", name: "db", status: "stopped", tags: "prod;sql", pool: "shop" },
    { vmid: 100, node: "pve", type: "lxc", name: "web", status: "running", tags: "prod" },
  ],
  storages: [{ storage: "local", node: "pve", status: "available" }],
  pools: ["empty"],
} as const;

const ids = (rows: readonly { id: string }[]) => rows.map(({ id }) => id);

describe("the tree", () => {
  it("shows guests by their id at first", () => {
    const rows = treeRows(source, openAtFirst(source));
    expect(ids(rows)).toEqual([
      "node/pve",
      "node/pve/storages",
      "node/pve/guests",
      "node/pve/guests/100",
      "node/pve/guests/101",
      "pools",
      "tags",
    ]);
    expect(rows[3]).toMatchObject({ level: 3, position: 1, size: 2, label: "100 web" });
    expect(rows[0]).toMatchObject({ level: 1, position: 1, size: 3, open: true });
  });
  it("shows pools, empty ones too, and tags", () => {
    const rows = treeRows(source, new Set(["pools", "pool/shop", "tags", "tag/prod"]));
    expect(ids(rows)).toContain("pool/empty");
    expect(ids(rows)).toEqual(expect.arrayContaining(["pool/shop/101", "tag/prod/100", "tag/prod/101", "tag/sql"]));
    expect(rows.find(({ id }) => id === "pool/empty")?.open).toBeUndefined();
  });
  it("finds by all the words", () => {
    expect(ids(foundRows(source, "db 101"))).toEqual(["node/pve/guests/101"]);
    expect(ids(foundRows(source, "sql"))).toEqual(["node/pve/guests/101", "tag/sql"]);
    expect(foundRows(source, "nothing")).toEqual([]);
  });
  it("reads tags", () => expect(tagsOf({ tags: "a;b, c" })).toEqual(["a", "b", "c"]));
  it("takes ten thousand guests", () => {
    const guests = Array.from({ length: 10_000 }, (_, index) => ({ ...source.guests[1], vmid: 100 + index }));
    const began = performance.now();
    const rows = treeRows({ ...source, guests }, openAtFirst(source));
    expect(rows.length).toBeGreaterThan(10_000);
    expect(performance.now() - began).toBeLessThan(500);
  });
});
