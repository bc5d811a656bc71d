/** The browser's security keys. Raises Error with words for who stands before the page. */
import { creationOptions, credentialJson, requestOptions } from "../logic/webauthn";

/** Whether the browser has security keys at all: only on pages whose certificate it trusts. */
export function hasKeys(): boolean {
  return typeof PublicKeyCredential !== "undefined";
}

/** Ask a key for a new credential; its answer as JSON. */
export async function makeCredential(asked: string): Promise<string> {
  return spoken(() => navigator.credentials.create(creationOptions(asked)));
}

/** Ask a key for its answer to a login's challenge, as JSON. */
export async function askCredential(publicKey: Readonly<Record<string, unknown>>): Promise<string> {
  return spoken(() => navigator.credentials.get(requestOptions(publicKey)));
}

async function spoken(ask: () => Promise<Credential | null>): Promise<string> {
  if (!hasKeys()) {
    throw new Error("This browser has no security keys here: the page's certificate has to be trusted.");
  }
  let credential: Credential | null;
  try {
    credential = await ask();
  } catch (error) {
    throw new Error(
      REASONS[(error as DOMException).name] ?? `The security key was not used: ${(error as Error).message}`,
    );
  }
  if (credential === null) {
    throw new Error("The security key gave no answer.");
  }
  return credentialJson(credential as PublicKeyCredential);
}

const REASONS: Readonly<Record<string, string>> = {
  InvalidStateError: "This security key is registered already.",
  NotAllowedError: "The security key was not used: it took too long, or it was called off.",
  SecurityError: "This page's address is not the one that security keys are for.",
};
