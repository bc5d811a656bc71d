import { describe, expect, it } from "vitest";
import { commandOf } from "../src/logic/actions";
import { make, unmake, wipe } from "../src/logic/disks";
import { buildImage, removeVolume } from "../src/logic/images";
import { asField, type FieldGroup, type FieldSpec } from "../src/logic/schema";
import {
  addStorage,
  changeStorage,
  placeOf,
  removeStorage,
  scanOf,
  scanQuery,
  stateOf,
  storageFields,
  uploadCurl,
  withOptions,
} from "../src/logic/storages";

const CIFS = {
  type: "cifs",
  needed: ["server", "share"],
  optional: ["content", "nodes", "username", "prune-backups", "bwlimit"],
  fixed: ["server", "share", "storage", "type"],
  secrets: ["password"],
  content: ["iso", "backup"],
  default: ["iso"],
};

function names(fields: readonly (FieldSpec | FieldGroup)[]): string[] {
  return fields.flatMap((one) =>
    typeof one === "object" && "fields" in one ? one.fields.map((spec) => asField(spec).name) : [asField(one).name],
  );
}

describe("a storage's form", () => {
  it("asks for what its type needs first, and hides secrets", () => {
    const fields = storageFields(CIFS, false);
    expect(names(fields).slice(0, 4)).toEqual(["storage", "server", "share", "content"]);
    expect(fields.find((one) => typeof one === "object" && "name" in one && one.name === "password")).toMatchObject({
      secret: true,
    });
    expect(names(fields)).toContain("prune-backups");
  });

  it("leaves out what stays, where the storage is there", () => {
    expect(names(storageFields(CIFS, true))).not.toContain("server");
  });

  it("takes what a scan found", () => {
    const plan = scanOf("cifs");
    expect(plan && scanQuery(plan, {})).toBeUndefined();
    expect(plan && scanQuery(plan, { server: "nas", password: "" })).toEqual({ server: "nas" });
    const thin = scanOf("lvmthin");
    expect(thin && scanQuery(thin, { vgname: "pve" })).toEqual({ vg: "pve" });
    expect(withOptions(["share"], "share", ["media"])).toEqual([{ name: "share", options: ["media"], open: true }]);
    expect(scanOf("dir")).toBeUndefined();
  });
});

describe("what is done with storages", () => {
  it("tells its command without secrets", () => {
    const add = addStorage("cifs", { storage: "nas", server: "nas.lan", share: "media", password: "hush" });
    expect(commandOf(add)).toBe("bastide storage add nas cifs server=nas.lan share=media --password-file FILE");
    expect(add.parameters?.password).toBe("hush");
  });

  it("changes only what was changed", () => {
    const change = changeStorage("nas", { content: "iso", nodes: "a" }, { content: "iso,backup", nodes: "" }, "d1");
    expect(change.parameters).toEqual({ content: "iso,backup", delete: "nodes", digest: "d1" });
    expect(change.command).toBe("bastide storage set nas content=iso,backup --delete nodes");
  });

  it("asks for the name where a key is lost", () => {
    expect(removeStorage("safe", "borg").typed).toBe("safe");
    expect(removeStorage("nas", "nfs").typed).toBeUndefined();
  });

  it("tells where one is and how it does", () => {
    expect(placeOf({ server: "nas", export: "/vms" })).toBe("nas:/vms");
    expect(placeOf({ vgname: "pve", thinpool: "data" })).toBe("pve/data");
    expect([stateOf({ enabled: 1, active: 0 }), stateOf({ enabled: 0, active: 0 })]).toEqual(["away", "disabled"]);
    expect(uploadCurl("https://h", "/x", [["content", "iso"]], "a b.iso")).toContain("'filename=@a b.iso'");
  });
});

it("names volumes, images and disks in what it does to them", () => {
  expect(removeVolume("n", "local:iso/a b.iso", 1024).path).toBe(
    "/nodes/n/storage/local/content/local%3Aiso%2Fa%20b.iso",
  );
  expect(buildImage("debian-12", "qemu", "fast").command).toBe("bastide image build debian-12 --vm --storage fast");
  expect(wipe("n", "/dev/vdb", undefined).typed).toBe("/dev/vdb");
  expect(make("n", "zfs", { name: "tank", devices: "/dev/vdb,/dev/vdc" }).typed).toBe("/dev/vdb,/dev/vdc");
  const pool = unmake("n", { kind: "lvmthin", name: "data", group: "pve", of: "" });
  expect(pool.parameters).toEqual({ "cleanup-config": true, "volume-group": "pve" });
  expect(pool.command).toBe("bastide disks rm lvmthin pve/data");
});
