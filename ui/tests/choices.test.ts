import { expect, test } from "vitest";
import { withChoices } from "../src/logic/choices";

test("choices reach fields and parts by their names, and other texts stay possible", () => {
  const fields = ["cores", { name: "cpu", label: "CPU", parts: [{ name: "cputype", label: "Model" }, "flags"] }];
  expect(withChoices(fields, { cputype: ["host", "host", "max"], flags: [] })).toEqual([
    { name: "cores" },
    {
      name: "cpu",
      label: "CPU",
      parts: [{ name: "cputype", label: "Model", options: ["host", "max"], open: true }, { name: "flags" }],
    },
  ]);
});
