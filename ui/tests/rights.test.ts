import { describe, expect, test } from "vitest";
import { type Caller, type Check, lacking, lackingFor, type Published, privilegesOn } from "../src/logic/rights";

const caller = (rights: Caller["rights"], user = "ada@pve"): Caller => ({ user, rights });
const POWER: Check = ["perm", "/vms/{vmid}", ["VM.PowerMgmt"]];

describe("privileges on a path", () => {
  const rights = {
    "/": { "Sys.Audit": 1 },
    "/vms": { "VM.Audit": 1, "VM.PowerMgmt": 0 },
    "/vms/101": {},
    "/vms/102": { "VM.Console": 1 },
  };
  test("are its own, or come down from above as far as they reach", () => {
    expect(privilegesOn(rights, "/vms")).toEqual({ "VM.Audit": 1, "VM.PowerMgmt": 0 });
    expect(privilegesOn(rights, "/vms/100")).toEqual({ "VM.Audit": 1 });
    expect(privilegesOn(rights, "/storage/local")).toEqual({ "Sys.Audit": 1 });
    expect(privilegesOn(rights, "/vms/102")).toEqual({ "VM.Console": 1 });
    expect(privilegesOn({}, "/vms/100")).toEqual({});
  });
  test("are none where NoAccess cuts them off", () => {
    expect(privilegesOn(rights, "/vms/101")).toEqual({});
    expect(lacking(caller(rights), ["perm", "/vms/{vmid}", ["VM.Audit"]], { vmid: "101" })).toBe(
      "VM.Audit on /vms/101",
    );
  });
});

describe("a check", () => {
  const ada = caller({ "/vms/100": { "VM.PowerMgmt": 1, "VM.Audit": 1 }, "/pool/team": { "VM.Allocate": 1 } });
  test("names the first privilege that is missing, and where", () => {
    expect(lacking(ada, POWER, { vmid: "100" })).toBeUndefined();
    expect(lacking(ada, POWER, { vmid: "101" })).toBe("VM.PowerMgmt on /vms/101");
    expect(lacking(ada, ["perm", "/vms/{vmid}", ["VM.Audit", "VM.Clone"]], { vmid: "100" })).toBe(
      "VM.Clone on /vms/100",
    );
  });
  test("of which one privilege is enough", () => {
    const any: Check = ["perm", "/vms/{vmid}", ["VM.Clone", "VM.Audit"], "any", 1];
    expect(lacking(ada, any, { vmid: "100" })).toBeUndefined();
    expect(lacking(ada, any, { vmid: "101" })).toBe("VM.Clone or VM.Audit on /vms/101");
  });
  test("of what is not known yet asks whether it could be anywhere", () => {
    const making: Check = ["or", ["perm", "/vms/{vmid}", ["VM.Allocate"]], ["perm", "/pool/{pool}", ["VM.Allocate"]]];
    expect(lacking(ada, making, {})).toBeUndefined();
    expect(lacking(caller({ "/": { "VM.Allocate": 1 } }), making, {})).toBeUndefined();
    expect(lacking(caller({ "/vms": { "VM.Allocate": 0 } }), making, {})).toBe("VM.Allocate on /pool");
    expect(lacking(caller({}), making, {})).toBe("VM.Allocate on /pool");
  });
  test("of several takes all, of alternatives one", () => {
    const both: Check = ["and", POWER, ["perm", "/storage/{storage}", ["Datastore.AllocateSpace"]]];
    expect(lacking(ada, both, { vmid: "100", storage: "local" })).toBe("Datastore.AllocateSpace on /storage/local");
    expect(lacking(ada, ["or", both, POWER], { vmid: "100", storage: "local" })).toBeUndefined();
    const asked: Check = ["perm", "/pool/{pool}", ["VM.Allocate"], "require_param", "pool"];
    expect(lacking(ada, asked, {})).toBe("a pool");
    expect(lacking(ada, asked, { pool: "team" })).toBeUndefined();
  });
  test("knows users and the access list", () => {
    expect(lacking(ada, ["userid-param", "self"], { userid: "ada@pve" })).toBeUndefined();
    expect(lacking(ada, ["userid-param", "self"], { userid: "eve@pve" })).toBe("to be that user");
    const admin = caller({
      "/access/groups/staff": { "User.Modify": 1 },
      "/access/realm/pve": { "Realm.AllocateUser": 1 },
    });
    expect(lacking(admin, ["userid-group", ["User.Modify"]], { userid: "eve@pve" })).toBeUndefined();
    expect(lacking(ada, ["userid-group", ["User.Modify"]], { userid: "eve@pve" })).toBe(
      "User.Modify on /access/groups",
    );
    expect(lacking(admin, ["userid-param", "Realm.AllocateUser"], { userid: "eve@pve" })).toBeUndefined();
    expect(lacking(admin, ["userid-param", "Realm.AllocateUser"], { userid: "eve@pam" })).toContain(
      "/access/realm/pam",
    );
    expect(lacking(ada, ["perm-modify", "{path}"], { path: "/pool/team" })).toContain(
      "Permissions.Modify or Pool.Allocate",
    );
    expect(
      lacking(caller({ "/vms/100": { "VM.Allocate": 1 } }), ["perm-modify", "{path}"], { path: "/vms/100" }),
    ).toBeUndefined();
    expect(lacking(ada, ["perm-modify", "{path}"], {})).toBe("Permissions.Modify");
  });
  test("of a kind that is not known lets pass: the API has the last word", () => {
    expect(lacking(ada, ["something-new", 1], {})).toBeUndefined();
  });
});

describe("a call", () => {
  const published: Published = {
    "POST /nodes/{node}/qemu": { user: "all", needs: ["perm", "/vms/{vmid}", ["VM.Allocate"]] },
    "POST /nodes/{node}/qemu/{vmid}/status/start": { check: POWER },
    "DELETE /nodes/{node}/storage/{storage}/content/{volume}": {
      check: ["perm", "/storage/{storage}", ["Datastore.Allocate"]],
    },
    "POST /nodes/{node}/secret": null,
  };
  const start = { method: "POST", path: "/nodes/host/qemu/100/status/start" };
  test("is found by its path, and judged by what stands there", () => {
    expect(lackingFor(caller({}), published, start)).toBe("VM.PowerMgmt on /vms/100");
    expect(lackingFor(caller({ "/vms": { "VM.PowerMgmt": 1 } }), published, start)).toBeUndefined();
    const volume = { method: "DELETE", path: "/nodes/host/storage/local/content/local%3Aiso%2Fa.iso" };
    expect(lackingFor(caller({}), published, volume)).toBe("Datastore.Allocate on /storage/local");
    expect(lackingFor(caller({}), published, { ...start, method: "GET" })).toBeUndefined();
    expect(lackingFor(caller({}), published, { method: "POST", path: "/nodes/host/other" })).toBeUndefined();
  });
  test("that is open to all needs what it says in words", () => {
    const making = { method: "POST", path: "/nodes/{node}/qemu" };
    expect(lackingFor(caller({}), published, making)).toBe("VM.Allocate on /vms");
    expect(lackingFor(caller({ "/vms/200": { "VM.Allocate": 1 } }), published, making)).toBeUndefined();
    const given = { method: "POST", path: "/nodes/host/qemu", parameters: { vmid: 201 } };
    expect(lackingFor(caller({ "/vms/200": { "VM.Allocate": 1 } }), published, given)).toBe("VM.Allocate on /vms/201");
  });
  test("is nothing that root@pam lacks", () => {
    expect(lackingFor(caller({}, "root@pam"), published, start)).toBeUndefined();
    expect(lackingFor(caller({}), published, { method: "POST", path: "/nodes/host/secret" })).toBe("to be root@pam");
  });
});
