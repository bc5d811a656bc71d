import { describe, expect, it } from "vitest";
import { ago, bytes, duration, moment, percent, rate, share } from "../src/logic/units";

describe("units", () => {
  it.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [2 ** 30, "1 GiB"],
    [2 ** 30 * 1.25, "1.25 GiB"],
    [2 ** 30 * 10, "10 GiB"],
    [2 ** 30 - 1, "1 GiB"],
    [500 * 2 ** 20, "500 MiB"],
    [-2048, "-2 KiB"],
    [undefined, "–"],
    [Number.NaN, "–"],
  ])("tells %s bytes as %s", (count, text) => expect(bytes(count)).toBe(text));
  it("tells rates, parts and shares", () => {
    expect(rate(2048)).toBe("2 KiB/s");
    expect(percent(0.123)).toBe("12 %");
    expect(percent(0.0123)).toBe("1.2 %");
    expect(percent(0)).toBe("0 %");
    expect(share(1, 0)).toBe(0);
    expect(share(3, 2)).toBe(1);
  });
  it.each([
    [0, "0s"],
    [59.9, "59s"],
    [60, "1m"],
    [3_700, "1h 1m"],
    [86_400, "1d"],
    [93_784, "1d 2h"],
    [86_460, "1d"],
  ])("tells %s seconds as %s", (seconds, text) => expect(duration(seconds)).toBe(text));
  it("tells times", () => {
    expect(moment(0)).toMatch(/^19(69|70)-\d\d-\d\d \d\d:\d\d:\d\d$/);
    expect(ago(100, 103)).toBe("now");
    expect(ago(0, 3_700)).toBe("1h ago");
  });
});
