import { describe, expect, it } from "vitest";
import { type Action, asked, commandOf, curlOf, isUpid, pairs, path, shellWord, touched } from "../src/logic/actions";

const start: Action = { title: "Start web", method: "POST", path: "/nodes/pve/lxc/100/status/start" };

describe("actions", () => {
  it("sends what is given and nothing else", () => {
    expect(pairs({ a: 1, b: true, c: undefined, d: ["x", "y"], e: "" })).toEqual([
      ["a", "1"],
      ["b", "1"],
      ["d", "x"],
      ["d", "y"],
      ["e", ""],
    ]);
  });
  it("quotes for a shell", () => {
    expect(shellWord("a=b")).toBe("a=b");
    expect(shellWord("it's; $(x)")).toBe(`'it'\\''s; $(x)'`);
    expect(shellWord("")).toBe("''");
  });
  it("is a command", () => {
    expect(commandOf(start)).toBe("bastide api create /nodes/pve/lxc/100/status/start");
    expect(commandOf({ ...start, command: "bastide start web" })).toBe("bastide start web");
    expect(commandOf({ ...start, parameters: { note: "a b" } })).toContain("'note=a b'");
  });
  it("is a call", () => {
    expect(curlOf({ ...start, parameters: { timeout: 5 } }, "https://h:8006")).toBe(
      'curl -k -X POST -H "Authorization: PVEAPIToken=$TOKEN" --data-urlencode timeout=5 ' +
        "https://h:8006/api2/json/nodes/pve/lxc/100/status/start",
    );
    expect(curlOf({ ...start, method: "DELETE", parameters: { purge: true } }, "https://h")).toContain(
      "start?purge=1'",
    );
  });
  it("tells no secret", () => {
    const action = { ...start, parameters: { password: "hunter2", other: "x" } };
    expect(commandOf(action)).not.toContain("hunter2");
    expect(curlOf(action, "https://h")).not.toContain("hunter2");
  });
  it("asks before what is lost", () => {
    expect(asked(start)).toBe(false);
    expect(asked({ ...start, danger: true })).toBe(true);
    expect(asked({ ...start, loses: ["all"] })).toBe(true);
    expect(asked({ ...start, typed: "web" })).toBe(true);
  });
  it("encodes paths", () => expect(path`/nodes/${"p/x"}/lxc/${100}`).toBe("/nodes/p%2Fx/lxc/100"));
  it("knows what it makes stale", () => {
    expect(touched("/nodes/pve/lxc/100/config")).toEqual(["guests", "tasks"]);
    expect(touched("/storage")).toEqual(["storage", "tasks"]);
    expect(touched("/cluster/backup/x")).toEqual(["jobs", "tasks"]);
    expect(touched("/nodes/pve/startall")).toEqual(["guests", "tasks"]);
  });
  it("knows the name of a task", () => {
    expect(isUpid("UPID:pve:0000A1B2:0000C3D4:65A1B2C3:vzstart:100:root@pam:")).toBe(true);
    expect(isUpid("UPID:pve")).toBe(false);
    expect(isUpid(null)).toBe(false);
  });
});
