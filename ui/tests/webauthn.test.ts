import { expect, it } from "vitest";
import {
  challengeIn,
  creationOptions,
  credentialJson,
  requestOptions,
  toBase64url,
  toBytes,
} from "../src/logic/webauthn";

const BYTES = new Uint8Array([0xfb, 0xff, 0xfe, 0]);
const TEXT = "-__-AA";

it("writes bytes as base64url and reads them again", () => {
  expect(toBase64url(BYTES.buffer)).toBe(TEXT);
  expect(toBytes(TEXT)).toEqual(BYTES);
  expect(toBytes("")).toEqual(new Uint8Array());
});

it("gives the browser bytes where the API has text", () => {
  const asked = JSON.stringify({
    publicKey: {
      rp: { id: "localhost", name: "B" },
      user: { id: TEXT, name: "a@pve", displayName: "a@pve" },
      challenge: TEXT,
      excludeCredentials: [{ type: "public-key", id: TEXT }],
      attestation: "none",
    },
  });
  const { publicKey } = creationOptions(asked);
  expect(publicKey?.challenge).toEqual(BYTES);
  expect(publicKey?.user.id).toEqual(BYTES);
  expect(publicKey?.excludeCredentials?.[0]?.id).toEqual(BYTES);
  expect(publicKey?.attestation).toBe("none");
  expect(challengeIn(asked)).toBe(TEXT);
  const got = requestOptions({
    challenge: TEXT,
    rpId: "localhost",
    allowCredentials: [{ type: "public-key", id: TEXT }],
  });
  expect(got.publicKey?.challenge).toEqual(BYTES);
  expect(got.publicKey?.allowCredentials?.[0]?.id).toEqual(BYTES);
  expect(requestOptions({ challenge: TEXT }).publicKey?.allowCredentials).toEqual([]);
});

it("writes what a key answered", () => {
  const credential = {
    id: TEXT,
    rawId: BYTES.buffer,
    type: "public-key",
    response: {
      clientDataJSON: BYTES.buffer,
      authenticatorData: BYTES.buffer,
      signature: BYTES.buffer,
      userHandle: null,
    },
  } as unknown as PublicKeyCredential;
  expect(JSON.parse(credentialJson(credential))).toEqual({
    id: TEXT,
    rawId: TEXT,
    type: "public-key",
    response: { clientDataJSON: TEXT, authenticatorData: TEXT, signature: TEXT },
  });
});
