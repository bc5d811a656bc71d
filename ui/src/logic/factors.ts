/** Second factors: what a login asks, what a source of codes is, and what is done with a user's. */
import { type Action, path, shellCommand } from "./actions";
import { given, type Values } from "./schema";

export type FactorKind = "totp" | "webauthn" | "recovery";

export interface FactorRow {
  readonly id: string;
  readonly type: FactorKind | "u2f" | "yubico";
  readonly description: string;
  readonly created: number;
  readonly enable: number;
}

export interface Challenge {
  readonly totp?: boolean;
  /** The numbers of the unused codes. */
  readonly recovery?: readonly number[];
  /** What the browser asks a security key. */
  readonly webauthn?: { readonly publicKey: Readonly<Record<string, unknown>> };
}

/** What half a ticket (`PVE:!tfa!JSON:TIME::SIGNATURE`) asks; nothing for another text. */
export function challengeOf(ticket: string): Challenge {
  const found = /^PVE:!tfa!([^:]+):/.exec(ticket);
  try {
    return found?.[1] === undefined ? {} : (JSON.parse(decodeURIComponent(found[1])) as Challenge);
  } catch {
    return {};
  }
}

/** The kinds that can be answered, the one that is asked for first in front. */
export function kindsOf(challenge: Challenge): FactorKind[] {
  const kinds: FactorKind[] = [];
  if (challenge.webauthn !== undefined) {
    kinds.push("webauthn");
  }
  if (challenge.totp) {
    kinds.push("totp");
  }
  if (challenge.recovery !== undefined && challenge.recovery.length > 0) {
    kinds.push("recovery");
  }
  return kinds;
}

/** What a kind is called. */
export const FACTOR_NAMES: Readonly<Record<FactorRow["type"], string>> = {
  totp: "Codes of an app",
  webauthn: "Security key",
  recovery: "Recovery codes",
  u2f: "U2F key",
  yubico: "Yubico OTP",
};

/** Which recovery codes are left, as people count. */
export function codesLeft(numbers: readonly number[]): string {
  return numbers.map((number) => String(number + 1)).join(", ");
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** Bytes as base32 without padding (RFC 4648): 20 bytes are 32 characters. */
export function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(held >> bits) & 31];
    }
    held &= (1 << bits) - 1;
  }
  return bits > 0 ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

/** What an app reads as a QR code (Google Authenticator's Key Uri Format). */
export function otpauthUri(secret: string, userid: string, host: string): string {
  const issuer = encodeURIComponent(`Bastide - ${host}`);
  return `otpauth://totp/${issuer}:${encodeURIComponent(userid)}?secret=${secret}&issuer=${issuer}&digits=6&period=30`;
}

function add(userid: string, title: string, parameters: Values, command?: string): Action {
  const all = given({ ...parameters });
  return { title, method: "POST", path: path`/access/tfa/${userid}`, parameters: all, command };
}

export function addTotp(userid: string, uri: string, values: Values): Action {
  const command = shellCommand("bastide", "user", "tfa", "add", "totp", userid);
  return add(userid, "Add codes of an app", { ...values, type: "totp", totp: uri }, command);
}

export function addRecovery(userid: string, values: Values): Action {
  const command = shellCommand("bastide", "user", "tfa", "add", "recovery", userid);
  return add(userid, "Make recovery codes", { ...values, type: "recovery" }, command);
}

/** The first call for a security key is answered with a challenge; the second has the key's answer to it. */
export function addKey(userid: string, values: Values, answer?: { challenge: string; value: string }): Action {
  return add(userid, "Add security key", { ...values, type: "webauthn", ...answer });
}

export function changeFactor(userid: string, id: string, values: Values): Action {
  const { password, description = "", enable = "1" } = values;
  return {
    title: "Change the second factor",
    method: "PUT",
    path: path`/access/tfa/${userid}/${id}`,
    parameters: { description, enable, ...(password && { password }) },
  };
}

export function removeFactor(userid: string, row: FactorRow, values: Values = {}): Action {
  return {
    title: `Remove ${factorName(row)}`,
    method: "DELETE",
    path: path`/access/tfa/${userid}/${row.id}`,
    parameters: given({ ...values }),
    command: shellCommand("bastide", "user", "tfa", "remove", userid, row.id),
  };
}

export function unlockFactors(userid: string): Action {
  return {
    title: `Unlock the second factors of ${userid}`,
    method: "PUT",
    path: path`/access/users/${userid}/unlock-tfa`,
    command: shellCommand("bastide", "user", "tfa", "unlock", userid),
  };
}

/** What an entry is called among others. */
export function factorName(row: FactorRow): string {
  return row.description ? `${FACTOR_NAMES[row.type]} (${row.description})` : FACTOR_NAMES[row.type];
}

/** What is locked of a user's factors; `now` in seconds since the epoch. */
export function lockOf(row: { "totp-locked"?: number; "tfa-locked-until"?: number }, now: number): string | undefined {
  if ((row["tfa-locked-until"] ?? 0) > now) {
    return "all locked after too many wrong answers";
  }
  return row["totp-locked"] ? "codes of apps are locked after too many wrong ones" : undefined;
}
