import { describe, expect, it } from "vitest";
import { displaysOf, hasClipboard } from "../src/logic/displays";
import { OutputGate } from "../src/logic/outputGate";
import { inputFrames, sizeFrame, withControl } from "../src/logic/terminalFrames";
import { keysFor } from "../src/logic/typing";

const text = (frame: Uint8Array | undefined) => new TextDecoder().decode(frame);

describe("inputFrames", () => {
  it("counts bytes, not characters", () => {
    expect(inputFrames("é").map(text)).toEqual(["0:2:é"]);
  });

  it("cuts what is long into frames that the server takes", () => {
    const frames = inputFrames("x".repeat(40_000));
    expect(frames.map((frame) => text(frame).split(":")[1])).toEqual(["16384", "16384", "7232"]);
  });

  it("says nothing for nothing", () => {
    expect(inputFrames("")).toEqual([]);
  });
});

it("tells a size with a colon at its end", () => {
  expect(sizeFrame(80, 24)).toBe("1:80:24:");
});

describe("withControl", () => {
  it("makes control characters of letters", () => {
    expect(withControl("c")).toBe("\x03");
    expect(withControl("[")).toBe("[".charCodeAt(0) === 0x5b ? "\x1b" : "");
  });

  it("leaves the rest", () => {
    expect(withControl("1")).toBe("1");
    expect(withControl("\x1b[A")).toBe("\x1b[A");
  });
});

describe("keysFor", () => {
  it("knows the keyboard's places", () => {
    expect(keysFor("aB")).toEqual([
      { keysym: 0x61, code: "KeyA", shift: false },
      { keysym: 0x42, code: "KeyB", shift: true },
    ]);
    expect(keysFor("~/?1!")).toEqual([
      { keysym: 0x7e, code: "Backquote", shift: true },
      { keysym: 0x2f, code: "Slash", shift: false },
      { keysym: 0x3f, code: "Slash", shift: true },
      { keysym: 0x31, code: "Digit1", shift: false },
      { keysym: 0x21, code: "Digit1", shift: true },
    ]);
  });

  it("types each line's end once", () => {
    expect(keysFor("\r\n").map((key) => key.code)).toEqual(["Enter"]);
  });

  it("names characters beyond the keyboard by number", () => {
    expect(keysFor("é€")).toEqual([
      { keysym: 0xe9, shift: false },
      { keysym: 0x010020ac, shift: false },
    ]);
  });
});

describe("displaysOf", () => {
  it("puts a serial port first that is the VM's display", () => {
    expect(displaysOf("qemu", { serial0: "socket", serial1: "socket", vga: "serial1" })).toEqual([
      "serial1",
      "screen",
      "serial0",
    ]);
  });

  it("puts the screen first otherwise, and leaves out ports of the host's", () => {
    expect(displaysOf("qemu", { serial0: "socket", serial1: "/dev/ttyS0", vga: "std,memory=32" })).toEqual([
      "screen",
      "serial0",
    ]);
  });

  it("knows the one terminal of a CT", () => {
    expect(displaysOf("lxc", {})).toEqual(["terminal"]);
  });
});

it("knows whether the clipboards are joined", () => {
  expect(hasClipboard({ vga: "std,clipboard=vnc" })).toBe(true);
  expect(hasClipboard({})).toBe(false);
});

describe("OutputGate", () => {
  it("leaves out what comes while too much waits, and says so", () => {
    const shown: (Uint8Array | string)[] = [];
    const waiting: (() => void)[] = [];
    const gate = new OutputGate(10, (data, done) => {
      shown.push(data);
      waiting.push(done);
    });
    const some = new Uint8Array(8);
    for (let count = 0; count < 4; count += 1) {
      gate.take(some);
    }
    expect(shown).toEqual([some, some]);
    waiting.shift()?.();
    expect(shown).toHaveLength(2);
    waiting.shift()?.();
    expect(shown).toHaveLength(3);
    expect(shown[2]).toContain("left out");
    gate.take(some);
    expect(shown).toHaveLength(4);
  });
});
