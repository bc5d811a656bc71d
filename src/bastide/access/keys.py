"""The key that signs tickets: a file of its own with mode 0600, changed every day.

The previous key is accepted for as long as a ticket lives after the change, then forgotten.
"""

import hashlib
import hmac
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.filesystems import replace_text

ROTATE_AFTER = 24 * 3600
"""Seconds after which a new key is made."""

KEEP_AFTER = 2 * 3600 + 300
"""Seconds for which the key before is still accepted."""


_SKEW = 300
"""Seconds that a key may be from the future, after the clock was set back."""


class SigningKeys:
    """HMAC-SHA256 with the keys of one file: a list of `[made, secret]`, the newest first."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._keys: list[tuple[int, bytes]] = []

    def sign(self, purpose: str, text: str) -> str:
        """The signature of a text, in base64; one for another purpose never fits. Raises HostFailure."""
        return _sign(self._current()[0][1], purpose, text)

    def verify(self, purpose: str, text: str, signature: str) -> bool:
        """Whether a key that is still good made the signature. Compares the text, so no other spelling fits."""
        given = signature.encode(errors="replace")
        good = False
        for _, secret in self._current():
            good |= hmac.compare_digest(_sign(secret, purpose, text).encode(), given)
        return good

    def rotate(self) -> None:
        """Make a new key now; the one before is accepted for a while, unless it is from a future that was none.

        What such a key has signed would be good again when that time comes.
        """
        now = int(self._clock())
        keys = [(now, secrets.token_bytes(32)), *(key for key in self._keys[:1] if key[0] < now + _SKEW)]
        self._write(keys)
        self._keys = keys

    def _current(self) -> list[tuple[int, bytes]]:
        if not self._keys:
            self._keys = self._read()
        now = self._clock()
        if not self._keys or not -_SKEW < now - self._keys[0][0] < ROTATE_AFTER:
            self.rotate()
        if len(self._keys) > 1 and now - self._keys[0][0] > KEEP_AFTER:
            self._keys = self._keys[:1]
            self._write(self._keys)
        return self._keys

    def _read(self) -> list[tuple[int, bytes]]:
        try:
            raw = json.loads(self._path.read_text())
            return [(int(made), bytes.fromhex(secret)) for made, secret in raw]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise HostFailure(
                f"the key file {self._path} cannot be read: remove it, everybody logs in again"
            ) from error

    def _write(self, keys: list[tuple[int, bytes]]) -> None:
        text = json.dumps([[made, secret.hex()] for made, secret in keys])
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostFailure(f"the key file {self._path} cannot be written: {error}") from error
        replace_text(self._path, text)


def _sign(secret: bytes, purpose: str, text: str) -> str:
    key = hmac.digest(secret, purpose.encode(), hashlib.sha256)
    return b64encode(hmac.digest(key, text.encode(errors="surrogatepass"), hashlib.sha256)).decode()
