import { expect, test } from "vitest";
import { grant, guestSubject, reaching } from "../src/logic/acl";
import { commandOf, pairs } from "../src/logic/actions";

const web = { vmid: 100, node: "host", type: "lxc", name: "web", pool: "lab" } as const;

test("the entries that reach a guest are its own, its pool's, and those above that go down", () => {
  const entry = (path: string, propagate = 1) =>
    ({ path, propagate, type: "user", ugid: "a@pve", roleid: "R" }) as const;
  const all = [
    entry("/"),
    entry("/", 0),
    entry("/vms"),
    entry("/vms/100", 0),
    entry("/vms/101"),
    entry("/pool/lab", 0),
  ];
  expect(reaching([...all, entry("/pool/other"), entry("/storage")], guestSubject(web))).toEqual([
    all[0],
    all[2],
    all[3],
    all[5],
  ]);
});

test("giving and taking name the place, the role and who", () => {
  const given = grant(guestSubject(web), { type: "group", who: "ops", role: "PVEVMUser" });
  expect(pairs(given.parameters)).toEqual([
    ["path", "/vms/100"],
    ["roles", "PVEVMUser"],
    ["groups", "ops"],
    ["propagate", "1"],
  ]);
  const taken = grant(guestSubject(web), { type: "token", who: "a@pve!ci", role: "PVEAuditor" }, true);
  expect(pairs(taken.parameters)).toContainEqual(["delete", "1"]);
  expect(commandOf(taken)).toBe("bastide acl remove /vms/100 'a@pve!ci' --role PVEAuditor");
  expect(taken.danger).toBe(true);
});
