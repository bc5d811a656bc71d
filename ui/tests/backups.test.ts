import { describe, expect, it } from "vitest";
import { commandOf } from "../src/logic/actions";
import { changeJob, isEnabled, runJob, whomOf } from "../src/logic/backupJobs";
import {
  decodePath,
  encodePath,
  matching,
  ofGuest,
  restore,
  restoreOver,
  shortName,
  storageOf,
  verify,
} from "../src/logic/backups";
import { prune, whyPruned } from "../src/logic/pruning";

const VM = "local:backup/vzdump-qemu-101-2026_11_27-12_00_00.vma.zst";
const CT = "nas:backup/vzdump-lxc-100-2026_11_27-12_00_00.tar.zst";

describe("names", () => {
  it("tell whose a backup is and where", () => {
    expect(ofGuest(VM)).toEqual({ kind: "qemu", vmid: 101 });
    expect(ofGuest("local:backup/other.tar")).toBeUndefined();
    expect([storageOf(CT), shortName(CT)]).toEqual(["nas", "vzdump-lxc-100-2026_11_27-12_00_00.tar.zst"]);
  });

  it("carry paths of any letters", () => {
    expect(encodePath("/")).toBe("Lw==");
    expect(decodePath(encodePath("/etc/größe/日本"))).toBe("/etc/größe/日本");
  });
});

it("finds by name, id, volume and notes", () => {
  const rows = [
    { volid: VM, size: 1, vmid: 101, notes: "before update" },
    { volid: CT, size: 1, vmid: 100 },
  ];
  const find = (search: string) =>
    matching(rows, search, (vmid) => (vmid === 100 ? "web" : "db")).map((row) => row.vmid);
  expect(find("")).toEqual([101, 100]);
  expect(find("WEB")).toEqual([100]);
  expect(find("update 101")).toEqual([101]);
  expect(find("nas web")).toEqual([100]);
  expect(find("nowhere")).toEqual([]);
});

describe("restoring", () => {
  it("names the archive as each kind takes it", () => {
    expect(restore("host", CT, { vmid: "105" })).toMatchObject({
      path: "/nodes/host/lxc",
      parameters: { vmid: "105", ostemplate: CT, restore: true },
    });
    expect(restore("host", VM, { vmid: "105" }).parameters).toEqual({ vmid: "105", archive: VM });
  });

  it("is the command that people would type, as far as there is one", () => {
    const action = restore("host", CT, { vmid: "105", hostname: "copy", start: "1", unprivileged: "0" });
    expect(commandOf(action)).toBe(`bastide restore ${CT} --as 105 --name copy --start --privileged`);
    expect(commandOf(restore("host", VM, { vmid: "105", bwlimit: "5" }))).toContain("bastide api create");
  });

  it("says what is lost when a guest is replaced, and has its name typed", () => {
    const action = restoreOver("host", { volid: VM, ctime: "noon" }, { vmid: 101, name: "db" }, {});
    expect(action).toMatchObject({ typed: "db", danger: true, parameters: { vmid: 101, force: true, archive: VM } });
    expect(action.loses?.[0]).toContain("noon");
  });
});

it("verifies one or all", () => {
  expect(commandOf(verify({ storage: "local", volume: VM }))).toBe(`bastide backups verify ${VM}`);
  expect(verify({ storage: "local" }).title).toBe("Verify backups on local");
});

describe("pruning", () => {
  it.each([
    [{ mark: "keep", rule: "keep-daily" }, "It is the newest of its day (keep-daily)."],
    [{ mark: "keep", rule: "keep-last" }, "It is one of the newest (keep-last)."],
    [{ mark: "keep" }, "All are kept."],
    [{ mark: "remove", rule: "keep-weekly" }, "A newer one is kept for its week (keep-weekly)."],
    [{ mark: "remove" }, "No rule keeps it."],
    [{ mark: "protected" }, "It is protected; it counts for no rule."],
  ] as const)("says why: %j", (row, why) => {
    expect(whyPruned(row)).toBe(why);
  });

  it("tells in numbers what goes", () => {
    const action = prune({ node: "host", storage: "nas", keep: "keep-last=1" }, ["a", "b"], "2 GiB");
    expect(action.loses).toEqual(["2 backups go for good (2 GiB):", "a", "b"]);
    expect(commandOf(action)).toBe("bastide backups prune --storage nas --keep keep-last=1");
  });
});

describe("jobs", () => {
  it("say whom they are about", () => {
    expect(whomOf("backup", { id: "a", all: 1 })).toBe("all guests");
    expect(whomOf("backup", { id: "a", all: 1, exclude: "100,101" })).toBe("all guests but 100, 101");
    expect(whomOf("test", { id: "a", vmid: "100,101" })).toBe("100, 101");
    expect(whomOf("backup", { id: "a", pool: "shop" })).toBe("pool shop");
    expect(whomOf("verify", { id: "a", storage: "nas" })).toBe("all on nas");
  });

  it("are enabled unless they say otherwise", () => {
    expect([isEnabled({ id: "a" }), isEnabled({ id: "a", enabled: 0 })]).toEqual([true, false]);
  });

  it("run with what they do and not with when", () => {
    const row = {
      id: "n",
      type: "vzdump",
      schedule: "02:30",
      "next-run": 1,
      storage: "nas",
      all: 1,
      "exclude-path": ["/a"],
    };
    expect(runJob("backup", "host", row)).toMatchObject({
      path: "/nodes/host/vzdump",
      parameters: { storage: "nas", all: 1, "exclude-path": ["/a"] },
    });
    expect(Object.keys(runJob("backup", "host", row).parameters ?? {})).not.toContain("schedule");
    expect(runJob("verify", "host", { id: "v", storage: "nas", "outdated-after": 30 }).parameters).toEqual({
      storage: "nas",
      "outdated-after": 30,
    });
  });

  it("have paths of their own", () => {
    expect(changeJob("test", "weekly", {}).path).toBe("/bastide/backup/test-jobs/weekly");
  });
});
