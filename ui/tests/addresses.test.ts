import { expect, it } from "vitest";
import { addressesFault, keysFault, nameFault } from "../src/logic/addresses";
import { systemValues } from "../src/logic/creating";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

it.each([
  ["web", undefined],
  ["web-1.lan", undefined],
  ["", undefined],
  ["a_b", "letters"],
  ["-web", "letters"],
  ["web.", "letters"],
])("knows DNS names: %s", (text, fault) => {
  expect(nameFault(text)).toEqual(fault && expect.stringContaining(fault));
});

it.each([
  [{ ip: "dhcp", ip6: "auto" }, undefined],
  [{ ip: "10.0.0.5/24", gw: "10.0.0.1", ip6: "fd00::5/64", gw6: "fe80::1" }, undefined],
  [{ ip: "10.0.0.5" }, "ip: "],
  [{ ip: "300.0.0.5/24" }, "ip: "],
  [{ ip: "10.0.0.5/33" }, "ip: "],
  [{ gw: "10.0.0.1/24" }, "gw: "],
  [{ ip6: "fd00:::5/64" }, "ip6: "],
  [{ gw6: "10.0.0.1" }, "gw6: "],
])("knows addresses: %o", (parts, fault) => {
  expect(addressesFault(parts)).toEqual(fault && expect.stringMatching(new RegExp(`^${fault}`)));
});

it.each([
  [`${KEY} me@here\n\n# a comment\n`, undefined],
  [`no-pty ${KEY}`, undefined],
  ["garbage", "is not a public SSH key"],
  [KEY.slice(0, -6), "is only a part of a public SSH key"],
  [`${KEY.slice(0, 40)}\n${KEY.slice(40)} me@here`, "line 1 is only a part of a public SSH key"],
])("knows public keys: %s", (text, fault) => {
  expect(keysFault(text)).toBe(fault);
});

it("gives Windows what it asks for and has drivers of, and takes it back", () => {
  const linux = { ostype: "l26", memory: "2048", net0: "virtio,bridge=vmbr0", net1: "vmxnet3,bridge=vmbr0" };
  const windows = { ...linux, ...systemValues("win11", linux) };
  expect(windows).toMatchObject({ uefi: "1", secureboot: "1", tpm: "1", memory: "4096", net0: "e1000,bridge=vmbr0" });
  expect(windows.net1).toBe("vmxnet3,bridge=vmbr0");
  expect(systemValues("l26", windows)).toMatchObject({ uefi: "", tpm: "", net0: "virtio,bridge=vmbr0" });
});
