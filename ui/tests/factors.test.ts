import { expect, it } from "vitest";
import { commandOf, curlOf } from "../src/logic/actions";
import {
  addKey,
  addTotp,
  base32,
  challengeOf,
  changeFactor,
  codesLeft,
  factorName,
  kindsOf,
  lockOf,
  otpauthUri,
  removeFactor,
} from "../src/logic/factors";

const ROW = { id: "e1", type: "totp", description: "phone", created: 5, enable: 1 } as const;

it("reads what half a ticket asks", () => {
  const asked = { totp: true, recovery: [0, 9], webauthn: { publicKey: { challenge: "a:b" } } };
  const ticket = `PVE:!tfa!${encodeURIComponent(JSON.stringify(asked))}:6928DC7A::c2ln`;
  expect(challengeOf(ticket)).toEqual(asked);
  expect(kindsOf(asked)).toEqual(["webauthn", "totp", "recovery"]);
  for (const other of ["", "PVE:a@pve:6928DC7A::x", "PVE:!tfa!%:1::x", "PVE:!tfa!{:1::x"]) {
    expect(challengeOf(other)).toEqual({});
  }
  expect(kindsOf({ totp: false, recovery: [] })).toEqual([]);
  expect(codesLeft([0, 9])).toBe("1, 10");
});

// RFC 4648, section 10, without padding.
it.each([
  ["", ""],
  ["f", "MY"],
  ["fo", "MZXQ"],
  ["foo", "MZXW6"],
  ["foob", "MZXW6YQ"],
  ["fooba", "MZXW6YTB"],
  ["foobar", "MZXW6YTBOI"],
])("writes %s as base32", (text, written) => {
  expect(base32(new TextEncoder().encode(text))).toBe(written);
});

it("keeps all bits of a secret", () => {
  expect(base32(new Uint8Array(20).fill(255))).toBe("7".repeat(32));
});

it("names the user and the host to the app", () => {
  const uri = new URL(otpauthUri("ABC", "a b@pve", "pve.lan"));
  expect([uri.protocol, uri.searchParams.get("secret"), uri.searchParams.get("issuer")]).toEqual([
    "otpauth:",
    "ABC",
    "Bastide - pve.lan",
  ]);
  expect(uri.href).toContain(":a%20b%40pve?");
});

it("tells no secret where an action is copied", () => {
  const action = addTotp("a@pve", "otpauth://totp/x?secret=ABC", {
    value: "123456",
    password: "hunter22",
    description: "",
  });
  expect(action.parameters).toEqual({
    type: "totp",
    totp: "otpauth://totp/x?secret=ABC",
    value: "123456",
    password: "hunter22",
  });
  const shown = commandOf(action) + curlOf(action, "https://h");
  expect(shown).not.toMatch(/ABC|123456|hunter22/);
  expect(addKey("a@pve", { description: "blue" }, { challenge: "c", value: "{}" }).parameters).toMatchObject({
    type: "webauthn",
    challenge: "c",
    value: "{}",
  });
});

it("changes and removes an entry of a user", () => {
  expect(changeFactor("a@pve", "e1", { description: "", enable: "0", password: "" }).parameters).toEqual({
    description: "",
    enable: "0",
  });
  const gone = removeFactor("a@pve", ROW, { password: "pw" });
  expect([gone.method, gone.path, gone.title]).toEqual([
    "DELETE",
    "/access/tfa/a%40pve/e1",
    "Remove Codes of an app (phone)",
  ]);
  expect(factorName({ ...ROW, description: "" })).toBe("Codes of an app");
});

it("tells what is locked now", () => {
  expect(lockOf({}, 10)).toBeUndefined();
  expect(lockOf({ "tfa-locked-until": 9 }, 10)).toBeUndefined();
  expect(lockOf({ "tfa-locked-until": 11, "totp-locked": 1 }, 10)).toContain("all locked");
  expect(lockOf({ "totp-locked": 1 }, 10)).toContain("codes of apps");
});
