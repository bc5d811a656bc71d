import { expect, it } from "vitest";
import {
  addToken,
  changed,
  expiries,
  giveRoles,
  leavePool,
  removeUser,
  samePrivileges,
  setPassword,
  takeRole,
} from "../src/logic/access";
import { commandOf } from "../src/logic/actions";

it("sends what was changed, and the empty text for what was emptied", () => {
  expect(changed({ comment: "a", email: "b@c" }, { comment: "", email: "b@c", groups: "x" })).toEqual({
    comment: "",
    groups: "x",
  });
});

it("keeps an end that is set among the choices", () => {
  const found = expiries(1000.5, 5000);
  expect(found[0]).toEqual({ value: "0", label: "never" });
  expect(found[1]).toMatchObject({ value: "5000" });
  expect(found[2]).toEqual({ value: "87400", label: "in a day" });
});

it("percent-encodes what stands in a path, and tells no secret", () => {
  expect(addToken({ userid: "a b@pve", tokenid: "x", privsep: "1" }).path).toBe("/access/users/a%20b%40pve/token/x");
  const action = setPassword("web@pve", { password: "hunter22" });
  expect(action.parameters).toEqual({ userid: "web@pve", password: "hunter22" });
  expect(commandOf(action)).toBe("bastide user passwd web@pve");
});

it("gives and takes roles", () => {
  expect(giveRoles({ path: "/", roles: "PVEAdmin", users: "a@pve", groups: "", propagate: "0" }).parameters).toEqual({
    path: "/",
    roles: "PVEAdmin",
    users: "a@pve",
    propagate: false,
  });
  const taken = takeRole({ path: "/vms", type: "token", ugid: "a@pve!x", roleid: "PVEVMUser" });
  expect(taken.parameters).toEqual({ path: "/vms", roles: "PVEVMUser", tokens: "a@pve!x", delete: true });
  expect(removeUser("a@pve", 2, 1).danger).toBe(true);
});

it("takes guests and storages out of a pool", () => {
  expect(leavePool("prod", { vmid: 100 }).parameters).toEqual({ poolid: "prod", vms: "100", delete: true });
  expect(leavePool("prod", { storage: "local" }).parameters).toEqual({
    poolid: "prod",
    storage: "local",
    delete: true,
  });
});

it("tells privileges once for all paths that have them", () => {
  const all = { "VM.Audit": 1, "Sys.Audit": 1 };
  expect(samePrivileges({ "/": all, "/vms": { "Sys.Audit": 0, "VM.Audit": 0 }, "/pool": { "Pool.Audit": 1 } })).toEqual(
    [
      ["Sys.Audit, VM.Audit", ["/", "/vms"]],
      ["Pool.Audit", ["/pool"]],
    ],
  );
});
