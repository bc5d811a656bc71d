/** How a guest's options and charts are put into words. */
import { describe, expect, it } from "vitest";
import { measured, timeLabels } from "../src/logic/chart";
import { toldParts } from "../src/logic/guestOptions";
import { newVolumeFault } from "../src/logic/volumes";

describe("parts of an option", () => {
  it.each([
    ["qemu", "scsi0", "local:101/disk.qcow2,size=1G,backup=0", "local:101/disk.qcow2, size 1G, no backup"],
    ["qemu", "agent", "1", "enabled"],
    ["qemu", "startup", "2,up=30", "order 2, up 30"],
    ["lxc", "features", "nesting=1,keyctl=0", "nesting, no keyctl"],
  ] as const)("of %s %s=%s read %s", (kind, key, text, read) => expect(toldParts(kind, key, text)).toBe(read));
});

describe("a chart", () => {
  it("is drawn when something was measured", () => {
    expect(measured([{ label: "In", values: [null, undefined] }])).toBe(false);
    expect(measured([{ label: "In", values: [null, 0] }])).toBe(true);
  });
  it("tells the day where it begins", () => {
    const noon = new Date(2026, 10, 27, 12).getTime() / 1000;
    expect(timeLabels([noon, noon + 600, noon + 86_400], 600)).toEqual([
      "12:00\n2026-11-27",
      "12:10",
      "12:00\n2026-11-28",
    ]);
    expect(timeLabels([noon], 86_400)).toEqual(["11-27"]);
    expect(timeLabels([noon], 30 * 86_400)).toEqual(["2026-11"]);
  });
});

it("a size with more digits than the API reads is none", () => {
  expect(newVolumeFault("local:10000000")).toBe("the size must be at most 9999999 GiB");
  expect(newVolumeFault("local:9999999")).toBeUndefined();
});
