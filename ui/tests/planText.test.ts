import { describe, expect, it } from "vitest";
import { complete, examplePlan, faults, lineErrors, pathOf, planOf, type Schema } from "../src/logic/planText";

const schema: Schema = {
  $defs: {
    Service: {
      properties: {
        name: { type: "string", description: "host name" },
        service: { type: "string" },
        exposure: { enum: ["internet", "lan", "none"] },
        onboot: { type: "boolean" },
        after: { items: { type: "string" } },
        network: { $ref: "#/$defs/Network" },
        user_data: { type: "string" },
      },
    },
    Network: { properties: { bridge: { type: "string" }, ip: { type: "string", default: "dhcp" } } },
  },
  properties: { name: { type: "string" }, services: { items: { $ref: "#/$defs/Service" } } },
};

const TEXT = `name: home
services:
- name: dns
  service: unbound
  network:
    bridge: vmbr0
- name: web
  exposure: lan
`;
const lines = TEXT.split("\n");

describe("pathOf", () => {
  it.each([
    [0, []],
    [1, []],
    [2, ["services", "[]"]],
    [3, ["services", "[]"]],
    [5, ["services", "[]", "network"]],
    [7, ["services", "[]"]],
  ])("knows where line %i stands", (line, path) => {
    expect(pathOf(lines, line)).toEqual(path);
  });

  it("reads lists that are indented", () => {
    expect(pathOf(["services:", "  - name: a", "    after:", "      - b"], 3)).toEqual([
      "services",
      "[]",
      "after",
      "[]",
    ]);
  });
});

describe("complete", () => {
  const at = (text: string, known = {}) => {
    const rows = text.split("\n");
    return complete(text, rows.length - 1, rows.at(-1)?.length ?? 0, schema, known);
  };

  it("offers the keys of a place", () => {
    expect(at("na")?.options.map((one) => one.label)).toEqual(["name", "services"]);
    const found = at("name: home\nservices:\n- name: dns\n  ex");
    expect(found?.from).toBe(2);
    expect(found?.options).toContainEqual({ label: "exposure", after: ": " });
    expect(at("services:\n- name: a\n  network:\n    br")?.options.map((one) => one.label)).toEqual(["bridge", "ip"]);
  });

  it("offers values", () => {
    expect(at("services:\n- name: a\n  exposure: l")?.options.map((one) => one.label)).toEqual([
      "internet",
      "lan",
      "none",
    ]);
    expect(at("services:\n- name: a\n  onboot: ")?.options.map((one) => one.label)).toEqual(["true", "false"]);
    expect(at("services:\n- name: a\n  service: j", { service: ["jellyfin"] })?.options).toEqual([
      { label: "jellyfin" },
    ]);
  });

  it("offers nothing where nothing is known", () => {
    expect(at("name: ho")).toBeUndefined();
  });
});

describe("faults", () => {
  it("finds none in what is right", () => {
    expect(faults(TEXT, schema)).toEqual([]);
  });

  it("names unknown keys and values", () => {
    const text = TEXT.replace("exposure: lan", "exposure: moon").replace("bridge", "brigde");
    expect(faults(text, schema)).toEqual([
      { line: 6, from: 4, to: 10, message: "brigde: is no key here" },
      { line: 8, from: 12, to: 16, message: "exposure: one of internet, lan, none" },
    ]);
  });

  it("reads no keys in a text", () => {
    expect(faults("services:\n- name: a\n  user_data: |\n    packages: [x]\n  service: y\n", schema)).toEqual([]);
  });
});

it("reads the lines of errors", () => {
  expect(lineErrors({ "line 4: services[0].memory": "say the unit", plan: "is empty" })).toEqual([
    { line: 4, message: "services[0].memory: say the unit" },
    { line: 0, message: "plan: is empty" },
  ]);
});

it("begins a plan", () => {
  expect(examplePlan(new Set(["web"]))).toContain("- name: web-2\n  service: nginx\n  after: [dns]\n");
  expect(planOf("web", "nginx", 3)).toBe("name: home\nservices:\n- name: web\n  service: nginx\n  instances: 3\n");
});
