import { describe, expect, test } from "vitest";
import {
  isOn,
  parse,
  parseCard,
  partsOf,
  print,
  printCard,
  stemOf,
  textOf,
  withParts,
} from "../src/logic/propertyString";

describe("parse", () => {
  test("gives a bare first part to the default key", () => {
    expect(parse("local:8,ro=1", "volume")).toEqual({ volume: "local:8", ro: "1" });
  });

  test("keeps what it does not know, values with an equals sign, and no empty parts", () => {
    expect(parse("a=b=c,,new-key=1")).toEqual({ a: "b=c", "new-key": "1" });
    expect(parse("bare")).toEqual({ bare: "" });
    expect(parse("")).toEqual({});
  });

  test("makes own properties of every name", () => {
    const parts = parse("__proto__=x,constructor=y");
    expect(Object.keys(parts)).toEqual(["__proto__", "constructor"]);
    expect(Object.getPrototypeOf(parts)).toBe(Object.prototype);
  });
});

describe("print", () => {
  test("writes the default key first and bare, unless that would read otherwise", () => {
    expect(print({ size: "8G", file: "local:100/x.qcow2" }, "file")).toBe("local:100/x.qcow2,size=8G");
    expect(print({ file: "a=b" }, "file")).toBe("file=a=b");
  });

  test("leaves out what is empty", () => {
    expect(print({ ip: "dhcp", gw: "", tag: undefined, name: "eth0" })).toBe("ip=dhcp,name=eth0");
  });
});

test("withParts changes some parts and loses none of the others", () => {
  expect(withParts("local:8,future=1,ro=1", { ro: undefined, backup: "0" }, "volume")).toBe(
    "local:8,future=1,backup=0",
  );
});

describe("a VM's network card", () => {
  test("has its model and address however they are written", () => {
    const parts = { model: "virtio", macaddr: "BC:24:11:00:00:01", bridge: "vmbr0" };
    expect(parseCard("virtio=BC:24:11:00:00:01,bridge=vmbr0")).toEqual(parts);
    expect(parseCard("virtio,macaddr=BC:24:11:00:00:01,bridge=vmbr0")).toEqual(parts);
    expect(parseCard("model=virtio,bridge=vmbr0")).toEqual({ model: "virtio", bridge: "vmbr0" });
  });

  test("is written with the model as the key of its address", () => {
    expect(printCard({ model: "e1000", macaddr: "AA:BB:CC:DD:EE:FF", tag: "7" })).toBe("e1000=AA:BB:CC:DD:EE:FF,tag=7");
    expect(printCard({ model: "virtio", bridge: "vmbr0" })).toBe("virtio,bridge=vmbr0");
  });
});

test("partsOf and textOf know the default key of an option of either kind", () => {
  const rows = [
    ["lxc", "mp12", "local:101/x,mp=/data"],
    ["lxc", "net0", "name=eth0,bridge=vmbr0,ip=dhcp"],
    ["qemu", "scsi0", "local:100/x.qcow2,size=8G"],
    ["qemu", "net1", "virtio=BC:24:11:00:00:01,bridge=vmbr0"],
    ["qemu", "agent", "1,fstrim_cloned_disks=1"],
    ["qemu", "boot", "order=scsi0;net0"],
    ["qemu", "cpu", "host,flags=+aes"],
  ] as const;
  for (const [kind, option, text] of rows) {
    expect(textOf(kind, option, partsOf(kind, option, text))).toBe(text);
  }
  expect(partsOf("lxc", "rootfs", "local:8").volume).toBe("local:8");
  expect(stemOf("scsi12")).toBe("scsi");
});

test("isOn reads every way of saying yes", () => {
  expect(["1", 1, "on", "yes", "True", true].map((value) => isOn(value))).toEqual(Array(6).fill(true));
  expect(["0", 0, "off", false, "x"].map((value) => isOn(value, true))).toEqual(Array(5).fill(false));
  expect(isOn(undefined, true)).toBe(true);
});
