import { describe, expect, it } from "vitest";
import {
  asValues,
  changes,
  faultOf,
  faultsOf,
  fieldSchema,
  given,
  labelOf,
  partsSchema,
  requestSchema,
} from "../src/logic/schema";

const create = {
  requestBody: {
    content: {
      "application/json": {
        schema: {
          properties: { vmid: { type: "integer", minimum: 100, maximum: 999 }, start: { type: "boolean" } },
          patternProperties: {
            "^net\\d+$": {
              type: "string",
              format: "pve-property-string",
              "x-properties": { name: { type: "string", pattern: "^[a-z]+\\d*$" } },
              "x-required": ["name"],
            },
          },
          required: ["vmid"],
        },
      },
    },
  },
};
const remove = {
  parameters: [
    { name: "vmid", in: "path", required: true, schema: { type: "integer" } },
    { name: "purge", in: "query", required: false, schema: { type: "boolean" } },
  ],
};
const document = { paths: { "/api2/json/lxc": { post: create, delete: remove } } };

describe("the schema of a request", () => {
  const schema = requestSchema(document, { method: "POST", path: "/lxc" });

  it("is found by method and path", () => {
    expect(schema?.required).toEqual(["vmid"]);
    expect(requestSchema(document, { method: "PUT", path: "/lxc" })).toBeUndefined();
  });

  it("has what is in the query where there is no body", () => {
    expect(requestSchema(document, { method: "DELETE", path: "/lxc" })?.properties).toEqual({
      purge: { type: "boolean" },
    });
  });

  it("knows indexed keys and the parts of property strings", () => {
    const net = schema && fieldSchema(schema, "net3");
    expect(partsSchema(net).required).toEqual(["name"]);
    expect(schema && fieldSchema(schema, "nets")).toBeUndefined();
  });

  it("tells what is wrong by field", () => {
    expect(schema && faultsOf(schema, ["vmid", "start"], {})).toEqual({ vmid: "is needed" });
    expect(schema && faultsOf(schema, ["vmid"], { vmid: "12" })).toEqual({ vmid: "must be at least 100" });
    expect(schema && faultsOf(schema, ["vmid"], { vmid: "120" })).toEqual({});
  });
});

describe("a value's fault", () => {
  it("is what its type says", () => {
    expect(faultOf({ type: "integer" }, "1.5")).toBe("expected a whole number");
    expect(faultOf({ type: "number" }, "1.5")).toBeUndefined();
    expect(faultOf({ type: "number" }, "x")).toBe("expected a number");
    expect(faultOf({ type: "string", minLength: 5 }, "abc")).toContain("at least 5");
    expect(faultOf({ type: "string", pattern: "^/" }, "abc")).toContain("^/");
    expect(faultOf({ enum: ["a", 1], type: "string" }, "1")).toBeUndefined();
    expect(faultOf({ enum: ["a"], type: "string" }, "b")).toContain("one of a");
  });

  it("is none where nothing was typed and nothing is needed", () => {
    expect(faultOf({ type: "integer" }, "")).toBeUndefined();
    expect(faultOf(undefined, "x")).toBeUndefined();
  });
});

describe("values", () => {
  it("are sent when they are not empty", () => {
    expect(given({ a: "1", b: "" })).toEqual({ a: "1" });
  });

  it("tell what changed and what was emptied", () => {
    expect(changes({ a: "1", b: "2", c: "3" }, { a: "1", b: "4", c: "", d: "5", e: "" })).toEqual({
      b: "4",
      d: "5",
      delete: "c",
    });
    expect(changes({ a: "1" }, { a: "1" })).toEqual({});
  });

  it("are texts of what the API answers", () => {
    expect(asValues({ a: 1, b: true, c: "x", d: null, e: [1] })).toEqual({ a: "1", b: "1", c: "x" });
  });
});

it("makes labels of names", () => {
  expect(labelOf("ssh-public-keys")).toBe("SSH public keys");
  expect(labelOf("is_mountpoint")).toBe("Is mountpoint");
  expect(labelOf("vmid")).toBe("VMID");
});
