import { describe, expect, it } from "vitest";
import { commandOf } from "../src/logic/actions";
import { attention, failures, type Known } from "../src/logic/attention";
import { described, summary } from "../src/logic/chart";
import { filtered, NO_FILTER, type Row, sorted, startMany, stopMany } from "../src/logic/guestRows";
import { keepRows } from "../src/logic/rows";
import { find, rank } from "../src/logic/search";

const web: Row = { vmid: 100, node: "pve", type: "lxc", name: "web", status: "running", cpu: 0.5, tags: "prod" };
const db: Row = { vmid: 101, node: "pve", type: "qemu", name: "Db", status: "stopped", cpu: 0 };
const rows = [web, db];

describe("guests as a list", () => {
  it("is sorted, equals by their id", () => {
    expect(sorted(rows, { by: "name", down: false })).toEqual([db, web]);
    expect(sorted(rows, { by: "cpu", down: true })).toEqual([web, db]);
    expect(sorted([db, web], { by: "disk", down: true })).toEqual([web, db]);
  });
  it("is filtered by words, kind and state", () => {
    const addresses = new Map([[100, ["10.0.0.7"]]]);
    expect(filtered(rows, NO_FILTER, addresses)).toBe(rows);
    expect(filtered(rows, { ...NO_FILTER, text: "10.0.0 web" }, addresses)).toEqual([web]);
    expect(filtered(rows, { ...NO_FILTER, text: "vm" }, addresses)).toEqual([db]);
    expect(filtered(rows, { ...NO_FILTER, state: "stopped" }, addresses)).toEqual([db]);
    expect(filtered(rows, { ...NO_FILTER, kind: "lxc" }, addresses)).toEqual([web]);
  });
  it("acts on those of the chosen that it concerns", () => {
    expect(startMany(rows)).toMatchObject({ title: "Start Db", parameters: { vms: "101", force: true } });
    expect(stopMany(rows, false)).toMatchObject({ title: "Shut down web", parameters: { vms: "100" } });
    const stop = stopMany([web, { ...web, vmid: 102 }], true);
    expect(stop).toMatchObject({ title: "Stop 2 guests", parameters: { vms: "100,102", "force-stop": true } });
    expect(stop && commandOf(stop)).toBe("bastide api create /nodes/pve/stopall vms=100,102 force-stop=1 timeout=60");
    expect(startMany([web])).toBeUndefined();
    expect(stopMany([db], true)).toBeUndefined();
  });
});

describe("search", () => {
  it("puts whole words before beginnings before middles", () => {
    const things = [{ label: "cobweb" }, { label: "webmail" }, { label: "web" }, { label: "other" }];
    expect(find(things, "web", 9).map(({ label }) => label)).toEqual(["web", "webmail", "cobweb"]);
    expect(find(things, "web", 1)).toHaveLength(1);
    expect(find(things, "", 2)).toHaveLength(2);
  });
  it("wants every word", () => {
    expect(rank("Start web", ["start", "web"])).toBeGreaterThan(0);
    expect(rank("Start web", ["stop", "web"])).toBe(0);
  });
});

const task = (upid: string, type: string, id: string, status: string | undefined, starttime = 1) => ({
  upid,
  node: "pve",
  type,
  id,
  starttime,
  ...(status !== undefined && { status, endtime: starttime + 1 }),
});

describe("what needs attention", () => {
  const calm: Known = { guests: rows, onboot: new Set(), storages: [], tasks: [], unsaved: [], damaged: [] };
  it("is nothing on a calm day", () => expect(attention(calm)).toEqual([]));
  it("forgets what was done again and went well", () => {
    const tasks = [
      task("c", "vzdump", "100", undefined),
      task("b", "vzdump", "100", "OK"),
      task("a", "vzdump", "100", "no space"),
    ];
    expect(failures(tasks)).toEqual([]);
    expect(failures(tasks.slice(2)).map(({ upid }) => upid)).toEqual(["a"]);
    expect(failures([task("w", "vzdump", "", "WARNINGS: 1")])).toEqual([]);
  });
  it("tells failed backups first, with a way to act", () => {
    const found = attention({
      ...calm,
      onboot: new Set([101]),
      tasks: [task("a", "qmstart", "101", "broken"), task("b", "vzdump", "100", "no space")],
      storages: [
        { storage: "local", status: "available", disk: 90, maxdisk: 100 },
        { storage: "gone", status: "unknown" },
      ],
      emulation: "/dev/kvm is missing",
      unsaved: [{ vmid: 100, name: "web" }],
    });
    expect(found.map(({ title }) => title)).toEqual([
      "The backup of web failed",
      "Storage gone is not available",
      "Task qmstart on Db failed",
      "Storage local is 90 % full",
      "Db is stopped",
      "VMs are emulated without KVM",
      "1 guest is in no backup job",
    ]);
    expect(found[0]?.action?.parameters).toEqual({ vmid: 100 });
    expect(found.every(({ action, link }) => action !== undefined || link !== undefined)).toBe(true);
  });
});

describe("a record that cannot be read", () => {
  it("is grave, and says what mends it", () => {
    const calm: Known = { guests: [], onboot: new Set(), storages: [], tasks: [], unsaved: [], damaged: [] };
    const [found] = attention({ ...calm, damaged: [{ key: "guest/100", reason: "it is no JSON" }] });
    expect(found).toMatchObject({ grave: true, title: "The record guest/100 cannot be read" });
    expect(found?.detail).toContain("bastide record show");
  });
});

describe("a chart in words", () => {
  it("tells now, least and most", () => {
    expect(summary([null, 3, 1, undefined])).toEqual({ last: 1, min: 1, max: 3 });
    expect(described([{ label: "CPU", values: [1, 2] }], (value) => `${value}!`)).toBe(
      "CPU: now 2!, at least 1!, at most 2!",
    );
    expect(described([{ label: "CPU", values: [null] }], String)).toBe("CPU: nothing measured");
  });
});

describe("rows that are asked for again", () => {
  const before = [
    { vmid: 100, name: "web", addresses: ["10.0.0.7"] },
    { vmid: 101, name: "db", addresses: [] as string[] },
  ];
  it("stay the same objects where they say the same", () => {
    expect(keepRows(before, structuredClone(before))).toBe(before);
    const after = keepRows(before, [structuredClone(before[0] ?? fail()), { vmid: 101, name: "sql", addresses: [] }]);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).toEqual({ vmid: 101, name: "sql", addresses: [] });
  });
  it("are found again when others came or went", () => {
    const [web = fail(), db = fail()] = before;
    expect(keepRows(before, [structuredClone(db)])[0]).toBe(db);
    expect(keepRows([db], structuredClone(before))[1]).toBe(db);
    expect(keepRows([web], [{ ...web, addresses: ["10.0.0.8"] }])[0]).not.toBe(web);
    expect(keepRows(undefined, before)).toBe(before);
  });
  it("lose what they no longer say", () => {
    const rows: { vmid: number; lock?: string }[] = [{ vmid: 100, lock: "backup" }];
    expect(keepRows(rows, [{ vmid: 100 }])).toEqual([{ vmid: 100 }]);
    expect(keepRows([{ vmid: 100 }], rows)).toEqual(rows);
  });
});

function fail(): never {
  throw new Error("no row");
}
