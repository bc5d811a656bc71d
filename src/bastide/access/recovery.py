"""Recovery codes: ten, each good for one login. They hold 64 random bits, so that a keyed hash guards them well."""

import hashlib
import hmac
import secrets
import time

from bastide.model.factors import RecoveryCodes

COUNT = 10


def make(now: float | None = None) -> tuple[RecoveryCodes, list[str]]:
    """New codes, `0123-4567-89ab-cdef`: what is kept of them, and their texts, which are shown this once."""
    salt = secrets.token_hex(16)
    codes = [secrets.token_hex(8) for _ in range(COUNT)]
    kept = RecoveryCodes(
        created=int(time.time() if now is None else now), salt=salt, hashes=tuple(_hash(salt, code) for code in codes)
    )
    return kept, ["-".join(code[start : start + 4] for start in range(0, 16, 4)) for code in codes]


def spend(kept: RecoveryCodes, code: str) -> RecoveryCodes | None:
    """The codes without this one, or None when it is none of the unused."""
    given = _hash(kept.salt, code.strip().lower().replace("-", ""))
    found = None
    for index, text in enumerate(kept.hashes):
        if hmac.compare_digest(text, given):
            found = index
    if found is None:
        return None
    return kept.model_copy(update={"hashes": (*kept.hashes[:found], "", *kept.hashes[found + 1 :])})


def _hash(salt: str, code: str) -> str:
    return hmac.digest(bytes.fromhex(salt), code.encode(errors="replace"), hashlib.sha256).hex()
