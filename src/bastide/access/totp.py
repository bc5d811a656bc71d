"""Codes of the time: RFC 6238 by pyotp, an `otpauth:` URI in, a step out."""

import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

import pyotp

from bastide.base.errors import InvalidParameter

WINDOW = 1
"""Steps by which a code may be early or late (RFC 6238, section 5.2)."""

SET_BACK = 20
"""Steps that the last code may be ahead of the clock; more, and the clock was set back: codes count anew."""

_SHORTEST = 10
_LONGEST = 128
"""Bytes of a secret. RFC 4226 asks for 16; shorter ones are in use."""

URI_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class TotpSecret:
    """A secret in base32 and how codes are made of it; `period` in seconds."""

    secret: str
    digits: int
    period: int
    algorithm: str

    @classmethod
    def from_uri(cls, uri: str) -> "TotpSecret":
        """Read an `otpauth://totp/...` URI. Raises InvalidParameter."""
        try:
            parsed = pyotp.parse_uri(uri)
            key = parsed.byte_secret()
        except (ValueError, TypeError, binascii.Error) as error:
            raise InvalidParameter({"totp": f"is not an otpauth URI that can be used: {error}"[:200]}) from None
        if not isinstance(parsed, pyotp.TOTP) or isinstance(parsed, pyotp.contrib.Steam):
            raise InvalidParameter({"totp": "is not an otpauth://totp/ URI"})
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise InvalidParameter({"totp": f"a secret has {_SHORTEST} to {_LONGEST} bytes"})
        if parsed.digits not in (6, 7, 8) or not 10 <= parsed.interval <= 300:
            raise InvalidParameter({"totp": "codes have 6 to 8 digits and last 10 to 300 seconds"})
        name = parsed.digest().name.upper()
        if name not in ("SHA1", "SHA256", "SHA512"):
            raise InvalidParameter({"totp": "the algorithm is SHA1, SHA256 or SHA512"})
        return cls(parsed.secret, parsed.digits, parsed.interval, name)

    @classmethod
    def from_text(cls, text: str) -> "TotpSecret":
        """Read what `to_text` made."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """The form that is sealed."""
        return json.dumps(
            {"secret": self.secret, "digits": self.digits, "period": self.period, "algorithm": self.algorithm}
        )

    def step_of(self, code: str, now: float | None = None) -> int | None:
        """The step whose code it is, within the window around now (seconds since the epoch), or None."""
        code = code.strip()
        if not code.isascii() or not code.isdigit():
            return None
        maker = self._maker()
        present = int((time.time() if now is None else now) // self.period)
        found = None
        for step in range(max(present - WINDOW, 0), present + WINDOW + 1):
            # Each is compared, and the newest wins, so that one code never counts as two steps.
            if hmac.compare_digest(maker.generate_otp(step), code):
                found = step
        return found

    def is_used(self, step: int, last: int, now: float) -> bool:
        """Whether a code of the step is spent once one of the step `last` was taken."""
        return step <= last <= now // self.period + SET_BACK

    def _maker(self) -> pyotp.TOTP:
        digest = getattr(hashlib, self.algorithm.lower())
        return pyotp.TOTP(self.secret, digits=self.digits, digest=digest, interval=self.period)
