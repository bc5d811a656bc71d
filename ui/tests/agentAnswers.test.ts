import { describe, expect, test } from "vitest";
import { interfacesOf, systemOf } from "../src/logic/agentAnswers";

const STRANGE = [undefined, null, 7, "x", [], [7, null, [[]]], { a: {} }, [{ name: { evil: 1 }, "ip-addresses": 3 }]];

describe("what a guest says", () => {
  test("is read where it is of the expected kind", () => {
    const row = {
      name: "eth0",
      "hardware-address": "BC:24:11:00:00:01",
      "ip-addresses": [{ "ip-address": "10.0.0.2", prefix: 24 }, { "ip-address": 4 }],
      statistics: { "rx-bytes": 10, "tx-bytes": -1 },
    };
    expect(interfacesOf([row, row])).toEqual([
      { name: "eth0", hwaddr: "BC:24:11:00:00:01", addresses: ["10.0.0.2/24"], received: 10, sent: undefined },
    ]);
    const told = systemOf({ "pretty-name": "Debian", "kernel-release": "6.1" }, { "host-name": "db" }, [
      { mountpoint: "/", "used-bytes": 1, "total-bytes": 2 },
      { mountpoint: "/proc" },
    ]);
    expect(told).toEqual({
      system: "Debian",
      kernel: "6.1",
      hostname: "db",
      filesystems: [{ mountpoint: "/", used: 1, total: 2 }],
    });
  });

  test("is left out where it is not, and never too long", () => {
    for (const answer of STRANGE) {
      expect(() => interfacesOf(answer)).not.toThrow();
      expect(systemOf(answer, answer, answer)).toMatchObject({
        system: undefined,
        hostname: undefined,
        filesystems: [],
      });
    }
    expect(interfacesOf([{ name: "x".repeat(10_000) }])[0]?.name.length).toBe(200);
    expect(interfacesOf(Array.from({ length: 5_000 }, (_, n) => ({ name: `if${n}` }))).length).toBe(256);
  });
});
