import { expect, it } from "vitest";
import { safeLink } from "../src/logic/links";

it("leads to the web and mail", () => {
  expect(safeLink("https://example.org/a?b#c")).toBe("https://example.org/a?b#c");
  expect(safeLink("HTTP://example.org")).toBe("HTTP://example.org");
  expect(safeLink("mailto:a@example.org")).toBe("mailto:a@example.org");
});

it.each([
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  " javascript:alert(1)",
  "java\nscript:alert(1)",
  "\u0001javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "vbscript:x",
  "file:///etc/passwd",
  "blob:https://here/1",
  "//other.example",
  "/api2/json/nodes",
  "#here",
  "https:example",
  "",
])("leads nowhere by %j", (address) => {
  expect(safeLink(address)).toBeUndefined();
});
