import { describe, expect, it } from "vitest";
import {
  containerDefaults,
  containerFaults,
  containerSteps,
  indexed,
  machineChoice,
  machineDefaults,
  machineFaults,
  machineParameters,
  machineSteps,
  mebibytesOf,
  nextIndexed,
  stepOf,
} from "../src/logic/creating";
import { contentOf, newVolumeFault, parseNewVolume } from "../src/logic/volumes";

const HOST = { vmid: "100", bridge: "vmbr0", storage: "local", image: "local:vztmpl/debian.tar.zst", hostCpu: true };

describe("a new container", () => {
  it("needs nothing but what the host has", () => {
    const values = containerDefaults(HOST);
    expect(containerFaults(values)).toEqual({});
    expect(containerSteps("node1", { ...values, hostname: "web" })).toEqual([
      {
        action: {
          title: "Create CT web",
          method: "POST",
          path: "/nodes/node1/lxc",
          parameters: { ...values, hostname: "web" },
        },
      },
    ]);
  });

  it("tells which volume or interface is incomplete", () => {
    const values = { rootfs: "local:", mp0: "local:4", mp1: "local:1,mp=/a", net0: "bridge=vmbr0", net1: "name=eth1" };
    expect(Object.keys(containerFaults(values))).toEqual(["rootfs", "mp0", "net0", "net1"]);
  });
});

describe("a new VM", () => {
  const values = machineDefaults(HOST);

  it("of an image grows its disk before it starts", () => {
    const choice = machineChoice({ ...HOST, image: "local:import/debian.qcow2" }, undefined);
    expect(machineFaults(values, choice)).toEqual({});
    const [make, grow, start] = machineSteps("n", { ...values, sshkeys: "ssh-ed25519 AA= a@b\n" }, choice);
    const sent = make?.action.parameters ?? {};
    expect(sent.scsi0).toBe("local:0,discard=on,import-from=local:import/debian.qcow2,iothread=1");
    expect(sent.ide2).toBe("local:cloudinit");
    expect(sent.sshkeys).toBe("ssh-ed25519%20AA%3D%20a%40b");
    expect(sent.start).toBeUndefined();
    expect(sent.ciuser).toBeUndefined();
    expect(grow?.action.parameters).toEqual({ disk: "scsi0", size: "16384M" });
    expect(start?.action.path).toBe("/nodes/n/qemu/100/status/start");
  });

  it("of a CD starts in the same call and has no cloud-init", () => {
    const choice = machineChoice({ ...HOST, image: undefined }, "local:iso/setup.iso");
    const steps = machineSteps("n", { ...values, ostype: "win11" }, { ...choice, secureBoot: true, tpm: true });
    expect(steps).toHaveLength(1);
    const sent = steps[0]?.action.parameters ?? {};
    expect(sent.sata0).toBe("local:16,discard=on");
    expect(sent.ide2).toBe("local:iso/setup.iso,media=cdrom");
    expect(sent.efidisk0).toBe("local:1,efitype=4m,pre-enrolled-keys=1");
    expect([sent.start, sent.machine, sent.bios, sent.ipconfig0, sent.scsihw]).toEqual([
      "1",
      "q35",
      "ovmf",
      undefined,
      undefined,
    ]);
  });

  it("tells what is missing", () => {
    const choice = { ...machineChoice(HOST, undefined), source: "iso" as const, disk: ":8" };
    expect(Object.keys(machineFaults({ ...values, scsi1: "local:0" }, choice))).toEqual(["iso", "disk", "scsi1"]);
    expect(machineParameters(values, { ...choice, source: "none" }).ide2).toBeUndefined();
  });
});

it("finds a fault's step", () => {
  const plans = [
    { key: "general", title: "General", names: ["vmid"] },
    { key: "network", title: "Network", names: ["net"] },
    { key: "confirm", title: "Confirm", names: [] },
  ];
  expect(stepOf(plans, "net12")).toBe("network");
  expect(stepOf(plans, "vmid")).toBe("general");
  expect(stepOf(plans, "what")).toBe("confirm");
});

it("numbers indexed options", () => {
  expect(indexed({ net10: "a", net2: "b", net1: "", netx: "c" }, "net")).toEqual(["net2", "net10"]);
  expect(nextIndexed({ mp0: "a", mp1: "" }, "mp")).toBe("mp1");
});

it("reads sizes and volumes", () => {
  expect(mebibytesOf("3G")).toBe(3072);
  expect(mebibytesOf("2560M")).toBe(2560);
  expect(mebibytesOf("x")).toBeUndefined();
  expect(parseNewVolume("local:8")).toEqual({ storage: "local", size: "8" });
  expect(parseNewVolume("local:100/vm-100-disk-0.raw")).toBeUndefined();
  expect(newVolumeFault("local:100/vm-100-disk-0.raw")).toBeUndefined();
  expect(newVolumeFault(":8")).toContain("storage");
  expect(contentOf("debian.ISO")).toBe("iso");
  expect(contentOf("a.tar.zst")).toBe("vztmpl");
  expect(contentOf("a.qcow2")).toBe("import");
  expect(contentOf("a.txt")).toBeUndefined();
});
