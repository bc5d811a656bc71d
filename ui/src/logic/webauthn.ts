/** WebAuthn's options and answers between the JSON that the API speaks and what browsers take and give. */

export function toBytes(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

export function toBase64url(bytes: ArrayBuffer): string {
  const text = Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

type Json = Readonly<Record<string, unknown>>;
type Listed = readonly (Json & { readonly id: string })[];

function credentials(list: unknown): PublicKeyCredentialDescriptor[] {
  return ((list ?? []) as Listed).map((one) => ({ ...one, type: "public-key", id: toBytes(one.id) }));
}

/** What `navigator.credentials.create()` takes. */
export function creationOptions(asked: string): CredentialCreationOptions {
  const { publicKey } = JSON.parse(asked) as { publicKey: Json & { challenge: string; user: Json & { id: string } } };
  return {
    publicKey: {
      ...publicKey,
      challenge: toBytes(publicKey.challenge),
      user: { ...publicKey.user, id: toBytes(publicKey.user.id) },
      excludeCredentials: credentials(publicKey.excludeCredentials),
    } as unknown as PublicKeyCredentialCreationOptions,
  };
}

/** The challenge in such options, by which the API knows them again. */
export function challengeIn(asked: string): string {
  return (JSON.parse(asked) as { publicKey: { challenge: string } }).publicKey.challenge;
}

/** What `navigator.credentials.get()` takes. */
export function requestOptions(publicKey: Json): CredentialRequestOptions {
  return {
    publicKey: {
      ...publicKey,
      challenge: toBytes(String(publicKey.challenge)),
      allowCredentials: credentials(publicKey.allowCredentials),
    } as PublicKeyCredentialRequestOptions,
  };
}

/** What a credential, new or asked, says: as JSON. */
export function credentialJson(credential: PublicKeyCredential): string {
  const response = credential.response as Partial<AuthenticatorAttestationResponse & AuthenticatorAssertionResponse>;
  const parts = (
    ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"] as const
  ).flatMap((name) => {
    const bytes = response[name];
    return bytes ? [[name, toBase64url(bytes)] as const] : [];
  });
  return JSON.stringify({
    id: credential.id,
    rawId: toBase64url(credential.rawId),
    type: credential.type,
    response: Object.fromEntries(parts),
  });
}
