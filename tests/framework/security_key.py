"""A security key in software: registers and answers as a browser with a key does (WebAuthn, ES256, no attestation)."""

import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import sha256, websafe_encode
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

_PRESENT = AuthenticatorData.FLAG.UP
_WITH_KEY = _PRESENT | AuthenticatorData.FLAG.AT


class SecurityKey:
    """One key with one credential; `counter` grows with each answer."""

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(32)
        self.counter = 0

    def register(self, asked: str, origin: str) -> tuple[str, str]:
        """What it answers to a registration's JSON on a page of that origin: (challenge, value)."""
        options = json.loads(asked)["publicKey"]
        public = ES256.from_cryptography_key(self._private.public_key())
        credential = AttestedCredentialData.create(b"\0" * 16, self.id, public)
        data = AuthenticatorData.create(sha256(options["rp"]["id"].encode()), _WITH_KEY, self.counter, credential)
        client = _client(CollectedClientData.TYPE.CREATE, options["challenge"], origin)
        response = {
            "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
            "clientDataJSON": websafe_encode(client),
        }
        return options["challenge"], self._credential(response)

    def answer(self, asked: dict[str, Any], origin: str) -> str:
        """What it answers to a login's options on a page of that origin."""
        options = asked["publicKey"]
        self.counter += 1
        data = AuthenticatorData.create(sha256(options["rpId"].encode()), _PRESENT, self.counter)
        client = _client(CollectedClientData.TYPE.GET, options["challenge"], origin)
        signature = self._private.sign(data + sha256(client), ec.ECDSA(SHA256()))
        response = {
            "authenticatorData": websafe_encode(data),
            "clientDataJSON": websafe_encode(client),
            "signature": websafe_encode(signature),
        }
        return self._credential(response)

    def _credential(self, response: dict[str, str]) -> str:
        name = websafe_encode(self.id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def _client(kind: str, challenge: str, origin: str) -> bytes:
    return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()
