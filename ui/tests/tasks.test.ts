import { expect, it } from "vitest";
import { filterOf, outcomeOf, taskSearch, taskTitle } from "../src/logic/tasks";

it("tells how a task ended", () => {
  expect([undefined, "OK", "WARNINGS: 2", "unable to start"].map(outcomeOf)).toEqual([
    "running",
    "ok",
    "warning",
    "error",
  ]);
});

it("asks for what runs, for how it ended, or for all", () => {
  expect(filterOf(undefined)).toEqual({ source: "all" });
  expect(filterOf("running")).toEqual({ source: "active" });
  expect(filterOf("error")).toEqual({ source: "archive", statusfilter: "error" });
});

it("says what a task does, and keeps a type that it does not know", () => {
  expect(taskTitle({ type: "qmstart", id: "100" })).toBe("Start VM 100");
  expect(taskTitle({ type: "startall", id: "" })).toBe("Start guests");
  expect(taskTitle({ type: "strange", id: "7" })).toBe("strange 7");
});

it("understands an address's search, and no more", () => {
  expect(taskSearch({ guest: 100, state: "error", user: "", type: ["x"], other: "y" })).toEqual({
    guest: "100",
    state: "error",
  });
  expect(taskSearch({ state: "strange", guest: "web", type: "<b>" })).toEqual({});
});
