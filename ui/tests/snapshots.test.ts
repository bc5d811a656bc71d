import { describe, expect, it } from "vitest";
import { commandOf } from "../src/logic/actions";
import { forget, rollBack, take, treeOf } from "../src/logic/snapshots";

const drawn = (rows: Parameters<typeof treeOf>[0]) =>
  treeOf(rows).map(({ row, depth }) => `${" ".repeat(depth)}${row.name}`);
const web = { vmid: 100, node: "host", type: "qemu", name: "web", status: "running" } as const;

describe("treeOf", () => {
  it("keeps a line of snapshots under each other", () => {
    const rows = [
      { name: "b", parent: "a", snaptime: 2 },
      { name: "a", snaptime: 1 },
      { name: "current", parent: "b" },
    ];
    expect(drawn(rows)).toEqual(["a", "b", "current"]);
  });

  it("indents what the present state did not come of", () => {
    const rows = [
      { name: "a", snaptime: 1 },
      { name: "left", parent: "a", snaptime: 2 },
      { name: "later", parent: "left", snaptime: 4 },
      { name: "c", parent: "a", snaptime: 3 },
      { name: "current", parent: "c" },
    ];
    expect(drawn(rows)).toEqual(["a", " left", " later", "c", "current"]);
  });

  it("shows all of what leads in a circle or to nothing", () => {
    const rows = [
      { name: "a", parent: "b", snaptime: 1 },
      { name: "b", parent: "a", snaptime: 2 },
      { name: "c", parent: "gone", snaptime: 3 },
      { name: "current" },
    ];
    expect(
      drawn(rows)
        .map((line) => line.trim())
        .sort(),
    ).toEqual(["a", "b", "c", "current"]);
  });
});

describe("actions", () => {
  it("are the commands that people would type", () => {
    expect(commandOf(take(web, { snapname: "s1", vmstate: "1", description: "before it" }))).toBe(
      "bastide snapshot web s1 --memory --description 'before it'",
    );
    expect(commandOf(forget(web, { name: "s1" }))).toBe("bastide snapshot web s1 --delete");
  });

  it("tell that a guest is stopped for a rollback", () => {
    const action = rollBack(web, { name: "s1", snaptime: 1 }, true);
    expect(action.parameters).toEqual({ start: true });
    expect(action.loses?.some((line) => line.includes("stopped"))).toBe(true);
  });

  it("do not ask to start what runs on with its memory", () => {
    expect(rollBack(web, { name: "s1", vmstate: 1 }, true).parameters).toEqual({ start: undefined });
  });
});
