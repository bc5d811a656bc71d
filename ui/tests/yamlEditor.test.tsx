import { cleanup, render, screen, waitFor } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";
import YamlEditor from "../src/components/YamlEditor";

vi.setConfig({ testTimeout: 60_000 });
afterEach(cleanup);

const offers = () => undefined;
const nothing = () => undefined;

function shown(): string {
  return [...document.querySelectorAll(".cm-line")].map((line) => line.textContent).join("\n");
}

it("shows a text as text, takes another one, and marks what is wrong", async () => {
  const text = "name: <b>home</b>\nservices: x\n";
  const { rerender } = render(<YamlEditor label="Plan" value={text} onChange={nothing} marks={[]} offers={offers} />);
  expect(screen.getByRole("textbox", { name: "Plan" })).toBeTruthy();
  expect(shown()).toBe(text);
  expect(document.querySelector("b")).toBeNull();
  const marks = [
    { line: 2, message: "services: a list" },
    { line: 99, message: "beyond the end" },
  ];
  rerender(<YamlEditor label="Plan" value={"name: a\nservices:"} onChange={nothing} marks={marks} offers={offers} />);
  await waitFor(() => expect(document.querySelectorAll(".cm-lintRange-error").length).toBe(1));
});
