import { describe, expect, test } from "vitest";
import { commandOf, pairs } from "../src/logic/actions";
import { bootEntries, bootText, moved, toggled } from "../src/logic/bootOrder";
import { clone } from "../src/logic/cloneAction";
import { cloudInitGroups, decodedKeys, formTexts, sentTexts, withoutSecrets } from "../src/logic/cloudInit";
import { attach, detach, move, removeDevice, resize, setDevice, setMedium } from "../src/logic/deviceActions";
import { type Device, devices, elsewhere, isDevice } from "../src/logic/devices";
import { type ActedOn, powerActions, remove, stop } from "../src/logic/guestActions";
import { edited, freeIndex, ownVolumes, revert, waiting } from "../src/logic/guestConfig";
import { formValues, hardwareOf, optionsOf, shown, unnamed } from "../src/logic/guestOptions";
import { colorOf, stateOf } from "../src/logic/guestState";

const web: ActedOn = { vmid: 100, node: "host", type: "lxc", name: "web", status: "stopped" };
const db: ActedOn = { vmid: 101, node: "host", type: "qemu", name: "db", status: "running" };

function device(kind: "lxc" | "qemu", key: string, value: string): Device {
  const [found] = devices(kind, [{ key, value }]);
  if (found === undefined) {
    throw new Error(`${key} is no device`);
  }
  return found;
}

describe("stateOf", () => {
  test("tells what a guest does", () => {
    expect(stateOf({ status: "running", qmpstatus: "postmigrate" })).toBe("paused");
    expect(stateOf({ status: "running", lock: "suspended" })).toBe("paused");
    expect(stateOf({ status: "stopped", lock: "suspended" })).toBe("suspended");
    expect(stateOf({ status: "stopped", template: 1 })).toBe("template");
    expect(stateOf({ status: "running", qmpstatus: "io-error" })).toBe("io-error");
    expect(colorOf("io-error")).toBe("red");
  });
});

describe("power", () => {
  const titles = (guest: ActedOn) => {
    const { first, others } = powerActions(guest);
    return [first?.title, ...others.map((one) => one.title)];
  };

  test("offers what the state allows", () => {
    expect(titles(web)).toEqual(["Start web"]);
    expect(titles({ ...web, template: 1 })).toEqual([undefined]);
    expect(titles({ ...web, status: "running" })).toEqual(["Shut down web", "Reboot web", "Stop web", "Suspend web"]);
    expect(titles(db)).toContain("Reset db");
    expect(titles({ ...db, qmpstatus: "paused" })[0]).toBe("Resume db");
  });

  test("a stop ends a shutdown that is at work, in the call and in the command", () => {
    expect(commandOf(stop(db))).toBe("bastide api create /nodes/host/qemu/101/status/stop overrule-shutdown=1");
  });

  test("removing says what goes and takes the name typed", () => {
    const action = remove(web, ["local:100/a.raw", "local:100/b.raw"], 1);
    expect(action.typed).toBe("web");
    expect(action.loses).toContain("1 snapshot goes too");
    expect(action.loses?.[0]).toContain("2 volumes go");
    expect(commandOf(action)).toBe("bastide rm web");
  });
});

describe("configuration", () => {
  test("sends what changed, and deletes what was emptied", () => {
    const action = edited(
      db,
      "Change",
      { cores: "2", name: "db", tags: "a" },
      { cores: "4", name: "db", tags: "" },
      "d",
    );
    expect(pairs(action.parameters)).toEqual([
      ["cores", "4"],
      ["delete", "tags"],
      ["digest", "d"],
    ]);
    expect(commandOf(action)).toBe("bastide set db cores=4 --delete tags");
  });

  test("tells no password in a command", () => {
    const action = edited(db, "Change", {}, { cipassword: "hunter22" });
    expect(commandOf(action)).not.toContain("hunter22");
  });

  test("reverts what waits", () => {
    const rows = [
      { key: "cores", value: 1, pending: 2 },
      { key: "memory", value: 512 },
      { key: "tags", value: "a", delete: 1 },
    ];
    const keys = waiting(rows).map((row) => row.key);
    expect(keys).toEqual(["cores", "tags"]);
    expect(pairs(revert(db, keys).parameters)).toEqual([["revert", "cores,tags"]]);
  });

  test("knows the volumes that go with a guest", () => {
    const config = {
      scsi0: "local:101/vm-101-disk-0.qcow2,size=8G",
      ide2: "local:iso/debian.iso,media=cdrom",
      ide0: "local:101/vm-101-cloudinit.qcow2,media=cdrom",
      unused0: "local:101/vm-101-disk-1.raw",
      sata0: "none,media=cdrom",
      virtio1: "/dev/sdb",
      memory: 512,
    };
    expect(ownVolumes("qemu", config)).toEqual([
      "local:101/vm-101-disk-0.qcow2",
      "local:101/vm-101-cloudinit.qcow2",
      "local:101/vm-101-disk-1.raw",
    ]);
    expect(ownVolumes("lxc", { mp0: "/srv,mp=/srv", rootfs: "local:100/x.raw,size=4G" })).toEqual(["local:100/x.raw"]);
  });

  test("finds the first free number", () => {
    expect(freeIndex(["net0", "net2"], "net", 32)).toBe(1);
    expect(freeIndex(["ide0", "ide1"], "ide", 2)).toBeUndefined();
  });
});

describe("options", () => {
  test("tell what is and what waits", () => {
    const memory = hardwareOf("lxc").find((group) => group.id === "memory");
    if (memory === undefined) {
      throw new Error("no memory");
    }
    const rows = [{ key: "memory", value: 512, pending: 2048 }];
    expect(shown(memory, rows)).toMatchObject({
      now: "512 MiB, 512 MiB swap",
      waits: "2 GiB, 512 MiB swap",
      set: true,
    });
    expect(shown(memory, [])).toMatchObject({ now: memory.otherwise, set: false });
    expect(formValues(memory.keys, rows)).toEqual({ memory: "2048" });
  });

  test("leave none out: what no table shows is told by its name", () => {
    const keys = ["memory", "scsi0", "ciuser", "args", "boot", "meta", "watchdog", "nameserver"];
    expect(unnamed("qemu", keys, (key) => elsewhere("qemu", key))).toEqual(["args", "meta"]);
    expect(optionsOf("lxc").map((group) => group.id)).toContain("nameserver");
  });
});

describe("devices", () => {
  test("have a kind, a label and an order", () => {
    const rows = ["net10", "net2", "ide2", "scsi0", "unused0", "efidisk0", "memory"].map((key) => ({
      key,
      value: key === "ide2" ? "none,media=cdrom" : "local:1/x",
    }));
    expect(devices("qemu", rows).map((one) => one.label)).toEqual([
      "EFI disk efidisk0",
      "Disk scsi0",
      "CD-ROM drive ide2",
      "Unused volume unused0",
      "Network net2",
      "Network net10",
    ]);
    expect(isDevice("lxc", "scsi0")).toBe(false);
    expect(device("lxc", "mp0", "/srv,mp=/srv").sort).toBe("bind");
    expect(device("qemu", "ide0", "local:101/vm-101-cloudinit.qcow2,media=cdrom").sort).toBe("cloudinit");
  });

  test("one that waits to be removed is told with what it is", () => {
    const [found] = devices("lxc", [{ key: "mp0", value: "local:100/d.raw,mp=/d", delete: 1 }]);
    expect(found).toMatchObject({ waits: "removed", text: "local:100/d.raw,mp=/d" });
  });

  test("detaching keeps the volume, removing an unused one says what is lost", () => {
    expect(detach(db, device("qemu", "scsi1", "local:101/d.raw,size=8G")).loses?.[0]).toContain("stays");
    const gone = removeDevice(db, device("qemu", "unused0", "local:101/d.raw"));
    expect(gone.loses?.[0]).toBe("Volume local:101/d.raw is deleted with all that is on it.");
    expect(commandOf(gone)).toBe("bastide set db --delete unused0");
  });

  test("are changed by one call each", () => {
    expect(commandOf(resize(db, "scsi0", "+5G"))).toBe("bastide resize db scsi0 +5G");
    expect(pairs(move(web, "rootfs", { storage: "fast", delete: "1" }).parameters)).toEqual([
      ["volume", "rootfs"],
      ["storage", "fast"],
      ["delete", "1"],
    ]);
    expect(setDevice(db, "scsi1", "local:8,ssd=1").method).toBe("POST");
    expect(setDevice(db, "scsi1", "local:101/x.raw,ssd=1").method).toBe("PUT");
    expect(setMedium(db, "ide2", "none,media=cdrom", "local:iso/a.iso").parameters?.ide2).toBe(
      "local:iso/a.iso,media=cdrom",
    );
    const unused = device("lxc", "unused0", "local:100/d.raw");
    expect(attach(web, unused, "mp1", { mp: "/d" }).parameters?.mp1).toBe("local:100/d.raw,mp=/d");
  });
});

test("a clone is the command's where the command can do it", () => {
  const values = { newid: "105", name: "db2", storage: "" };
  expect(commandOf(clone(db, values))).toBe("bastide clone db db2 --vmid 105");
  expect(commandOf(clone(db, { ...values, pool: "p" }))).toContain("bastide api create");
});

describe("boot order", () => {
  const rows = [
    { key: "boot", value: "order=scsi0;net0" },
    { key: "scsi0", value: "local:101/x" },
    { key: "net0", value: "virtio=AA" },
    { key: "ide2", value: "none,media=cdrom" },
  ];

  test("lists the ordered first and the others after them", () => {
    const entries = bootEntries(rows);
    expect(entries.map((one) => [one.key, one.on])).toEqual([
      ["scsi0", true],
      ["net0", true],
      ["ide2", false],
    ]);
    expect(bootText(moved(toggled(entries, "ide2"), 2, -1))).toBe("order=scsi0;ide2;net0");
  });
});

describe("cloud-init", () => {
  test("keys are written in the clear and sent encoded", () => {
    const stored = encodeURIComponent("ssh-ed25519 AAAA me@here\n");
    expect(decodedKeys("%zz")).toBe("%zz");
    const form = formTexts({ sshkeys: stored, cipassword: "**********" });
    expect(form).toEqual({ sshkeys: "ssh-ed25519 AAAA me@here" });
    expect(sentTexts(form).sshkeys).toBe(encodeURIComponent("ssh-ed25519 AAAA me@here"));
    const group = cloudInitGroups(["net0"]).find((one) => one.id === "sshkeys");
    expect(group?.told({ sshkeys: stored })).toBe("ssh-ed25519 me@here");
  });

  test("each card has its addresses", () => {
    expect(cloudInitGroups(["net1", "net0", "scsi0"]).map((one) => one.id)).toContain("ipconfig1");
  });

  test("shows no password", () => {
    const text = 'user: a\npassword: $5$x\n  - passwd: "$6$y"\nssh_pwauth: true\n';
    expect(withoutSecrets(text)).toBe("user: a\npassword: (not shown)\n  - passwd: (not shown)\nssh_pwauth: true\n");
  });
});
