import { describe, expect, it } from "vitest";
import { asLine, outcomeOf } from "../src/logic/audit";

describe("the audit log", () => {
  it("tells what was done from what was refused and what failed", () => {
    expect([101, 200, 302].map(outcomeOf)).toEqual(["done", "done", "done"]);
    expect([401, 403].map(outcomeOf)).toEqual(["refused", "refused"]);
    expect([0, 400, 404, 500, 503].map(outcomeOf)).toEqual(Array(5).fill("failed"));
  });

  it("writes parameters in a line, and nothing for none", () => {
    expect(asLine({ hostname: "web", password: "***" })).toBe("hostname=web password=***");
    expect(asLine(undefined)).toBe("");
  });
});
