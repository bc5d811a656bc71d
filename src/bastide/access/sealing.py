"""Secrets that have to be read again, sealed with AES-256-GCM under a key in a file of its own with mode 0600.

A copy of the store alone gives none of them away. A seal is bound to what it is for: it opens nowhere else.
"""

import secrets
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastide.base.errors import HostFailure
from bastide.host.filesystems import replace_text

_NONCE = 12
"""Bytes, as NIST SP 800-38D recommends."""


class Seal:
    """Seals and opens texts with the key of a file, which is made when something is first sealed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: AESGCM | None = None

    def close(self, text: str, purpose: str) -> str:
        """The sealed text, in base64. Raises HostFailure when there can be no key."""
        nonce = secrets.token_bytes(_NONCE)
        return b64encode(nonce + self._key(make=True).encrypt(nonce, text.encode(), purpose.encode())).decode()

    def open(self, sealed: str, purpose: str) -> str:
        """What was sealed for this purpose. Raises HostFailure for another key or purpose, or a damaged text."""
        try:
            raw = b64decode(sealed, validate=True)
            return self._key(make=False).decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode()).decode()
        except (ValueError, InvalidTag):
            raise HostFailure(
                f"a second factor cannot be read with the key in {self._path}: remove the factor"
            ) from None

    def _key(self, *, make: bool) -> AESGCM:
        if self._cipher is None:
            try:
                self._cipher = AESGCM(bytes.fromhex(self._read(make=make)))
            except (OSError, ValueError) as error:
                raise HostFailure(f"the key file {self._path} cannot be used: {error}") from error
        return self._cipher

    def _read(self, *, make: bool) -> str:
        try:
            return self._path.read_text().strip()
        except FileNotFoundError:
            if not make:
                raise
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = secrets.token_hex(32)
            replace_text(self._path, text)
            return text
