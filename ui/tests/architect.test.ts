import { describe, expect, it } from "vitest";
import { parts, squares } from "../src/logic/capacity";
import { compared, median, ratioText, reasons, told, words } from "../src/logic/comparison";
import { bootDisk, mend, shellSplit } from "../src/logic/review";
import {
  freeName,
  imageToLaunch,
  launchAction,
  launchedVmid,
  notesOf,
  placesOf,
  sizeText,
  webAddress,
  wish,
} from "../src/logic/service";

describe("a service", () => {
  it("is asked about with lists, and without what the launch alone needs", () => {
    const values = { service: "jellyfin", memory: "", devices: "gpu:shared,tun", storage: "fast", keep: "1" };
    expect(wish(values)).toEqual({ service: "jellyfin", devices: ["gpu:shared", "tun"] });
    const action = launchAction(values, "jellyfin", "bastide launch jellyfin");
    expect(action.parameters).toMatchObject({ name: "jellyfin", storage: "fast", keep: "1", service: "jellyfin" });
    expect(action.command).toBe("bastide launch jellyfin --storage fast --keep");
  });

  it("gets a name that is free", () => {
    expect(freeName("Actual Budget", new Set(["actual-budget", "actual-budget-2"]))).toBe("actual-budget-3");
    expect(freeName("!", new Set())).toBe("guest");
  });

  it("answers at a URL or at ports", () => {
    const web = { ports: [{ port: 80 }], recipe: { probe: { type: "http", port: 80 } } };
    expect(placesOf(web, "10.0.0.5")).toEqual([{ text: "http://10.0.0.5", url: "http://10.0.0.5" }]);
    const tls = { recipe: { probe: { type: "https", port: 8443 } } };
    expect(placesOf(tls, "fd00::5")[0]?.url).toBe("https://[fd00::5]:8443");
    expect(placesOf({ ports: [{ port: 53, protocol: "udp" }] }, "10.0.0.5")).toEqual([
      { text: "10.0.0.5, port 53/udp" },
    ]);
  });

  it("knows the guest that a launch made", () => {
    const upid = "UPID:pve:00000001:00000002:00000003:launch:100:root@pam:";
    expect(launchedVmid(upid, [])).toBe(100);
    expect(launchedVmid(upid, [{ t: "making CT 100 (web)" }, { t: "making CT 101 (web)" }])).toBe(101);
  });

  it("tells sizes as they may be typed, and no notes on calls that a launch makes itself", () => {
    expect([sizeText(256 * 1024 ** 2), sizeText(4 * 1024 ** 3)]).toEqual(["256M", "4G"]);
    expect(notesOf(["after the call, grow its disk", "Sites belong in /etc/nginx."])).toHaveLength(1);
  });

  it("knows what has to be brought", () => {
    expect(imageToLaunch({ ostemplate: "debian-12" }, ["image: is not there yet"])).toBe("");
    expect(imageToLaunch({ scsi0: "local:0,import-from=debian-12", ide2: "local:cloudinit" }, [])).toBe("");
    expect(imageToLaunch({ scsi0: "local:0,import-from=local:import/haos.qcow2" }, [])).toBe("local:import/haos.qcow2");
    expect(
      imageToLaunch({ scsi0: "local:0,import-from=local:import/haos.qcow2" }, ["image: bring it"]),
    ).toBeUndefined();
    expect(imageToLaunch({ sata0: "local:40", ide2: "none,media=cdrom" }, ["image: bring it"])).toBeUndefined();
  });

  it("is linked to by pages of the web alone", () => {
    expect(webAddress("https://nginx.org/")).toBe("https://nginx.org/");
    expect(webAddress("javascript:alert(1)")).toBeUndefined();
  });
});

describe("a comparison", () => {
  it("tells figures as the command line does", () => {
    expect(words("s", 1.934)).toBe("1.93 s");
    expect(words("s", 0.000148)).toBe("148 µs");
    expect(words("B", 36_385_587)).toBe("34.7 MiB");
    expect(words("1/s", 3246)).toBe("3,246 /s");
    expect(told({ unit: "s", values: [0.6, 0.586, 0.657] })).toBe("600 ms (586 ms - 657 ms)");
    expect(told(undefined)).toBe("–");
  });

  it("has the median of an even number, too", () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  it("says which kind is better", () => {
    const ct = { start: { unit: "s", values: [1] }, cpu_all: { unit: "1/s", values: [100] } } as const;
    const vm = { start: { unit: "s", values: [3] }, cpu_all: { unit: "1/s", values: [200] } } as const;
    expect(compared(ct, vm).map((row) => [row.key, row.winner, ratioText(row.ratio)])).toEqual([
      ["start", "ct", "3x"],
      ["cpu_all", "vm", "2x"],
    ]);
  });

  it("gathers reasons", () => {
    expect(reasons({ net_in: "no iperf3", net_out: "no iperf3" })).toEqual([
      ["no iperf3", ["network, host to guest", "network, guest to host"]],
    ]);
  });
});

describe("capacity", () => {
  it("is drawn in parts of the whole", () => {
    const found = parts({ total: 100, used: 20, promised: 40, spared: 10, host: 0, free: 50 });
    expect(found.map((part) => [part.key, part.share])).toEqual([
      ["promised", 40],
      ["spared", 10],
      ["free", 50],
    ]);
  });

  it("never draws more than the bar", () => {
    const found = parts({ total: 100, used: 20, promised: 190, spared: 10, host: 0, free: 0 });
    expect(found.reduce((sum, part) => sum + part.share, 0)).toBeCloseTo(100);
  });

  it("draws no more squares than fit", () => {
    expect(squares(75)).toEqual({ shown: 60, more: 15 });
  });
});

describe("what mends a finding", () => {
  const web = { vmid: 100, name: "web", kind: "ct" } as const;

  it("splits words as a shell does", () => {
    expect(shellSplit("bastide set 'my vm' a=\"b c\" d\\ e")).toEqual(["bastide", "set", "my vm", "a=b c", "d e"]);
  });

  it("sets and deletes options", () => {
    expect(mend("bastide set web memory=384", web, "pve", "rootfs")).toMatchObject({
      method: "PUT",
      path: "/nodes/pve/lxc/100/config",
      parameters: { memory: "384" },
    });
    expect(mend("bastide set web --delete balloon", { ...web, kind: "vm" }, "pve", undefined)).toMatchObject({
      path: "/nodes/pve/qemu/100/config",
      parameters: { delete: "balloon" },
    });
  });

  it("grows, launches and removes", () => {
    expect(mend("bastide resize web +4G", web, "pve", "rootfs")?.parameters).toEqual({ disk: "rootfs", size: "+4G" });
    expect(mend("bastide resize web +4G", web, "pve", undefined)).toBeUndefined();
    expect(
      mend("bastide launch debian-12 web-vm --vm --cores 2 --memory 1024M", web, "pve", undefined)?.parameters,
    ).toMatchObject({ name: "web-vm", os: "debian-12", kind: "vm", cores: "2", memory: "1024M" });
    expect(mend("bastide rm web", web, "pve", undefined)).toMatchObject({
      method: "DELETE",
      danger: true,
      typed: "web",
    });
    expect(mend("bastide doctor", web, "pve", undefined)).toBeUndefined();
  });

  it("knows the disk of the system", () => {
    expect(bootDisk({ rootfs: "local:1" })).toBe("rootfs");
    expect(bootDisk({ scsi0: "a:1", ide2: "local:cloudinit", scsi1: "a:2", boot: "order=scsi1;ide2" })).toBe("scsi1");
    expect(bootDisk({ scsi0: "a:1", ide2: "none,media=cdrom" })).toBe("scsi0");
  });
});
