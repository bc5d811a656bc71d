"""Passwords: argon2 for the realm `pve`, the system's PAM for the realm `pam`.

Both block and run in threads of their own, so that a slow PAM module or a flood of logins holds up nothing else; the
number of threads bounds the memory that hashing takes.
"""

import asyncio
import logging
import os
import secrets
from functools import cache

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from bastide.host.threads import begun

_log = logging.getLogger(__name__)

# OWASP's second choice: 19 MiB keep the daemon small. https://cheatsheetseries.owasp.org (Password Storage)
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

# The first of these that the host has. A host's own `bastide` file can ask for more than the system's password.
_PAM_SERVICES = ("bastide", "common-auth", "system-auth", "login")

PASSWORD_LIMIT = 1024
"""Bytes of a password that are looked at; longer ones are wrong."""


class Passwords:
    """Verifies and hashes passwords without blocking the event loop."""

    def __init__(self) -> None:
        self._argon = begun(2, "argon2")
        self._pam = begun(4, "pam")

    async def hash(self, password: str) -> str:
        """The argon2id hash to store."""
        return await asyncio.get_running_loop().run_in_executor(self._argon, _HASHER.hash, password)

    async def verify_hash(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one of the hash. Without a hash it takes as long, and is wrong."""
        return await asyncio.get_running_loop().run_in_executor(self._argon, _verify, stored, password)

    async def verify_system(self, name: str, password: str) -> bool:
        """Whether PAM lets the system's user in with the password, and the account is usable."""
        return await asyncio.get_running_loop().run_in_executor(self._pam, _ask_pam, name, password)

    def close(self) -> None:
        """Let the threads end."""
        self._argon.shutdown(wait=False, cancel_futures=True)
        self._pam.shutdown(wait=False, cancel_futures=True)


def usable(password: str) -> bool:
    """Whether a password can be right at all: never an empty one, even where the system's account has none."""
    try:
        return 0 < len(password.encode()) <= PASSWORD_LIMIT and "\0" not in password
    except UnicodeEncodeError:
        return False


def is_outdated(stored: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


@cache
def _stand_in() -> str:
    return _HASHER.hash(secrets.token_hex())


def _verify(stored: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(stored or _stand_in(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def _ask_pam(name: str, password: str) -> bool:
    # Loading libpam costs memory, so it waits for the first login.
    import pam  # noqa: PLC0415

    service = next((name for name in _PAM_SERVICES if os.path.exists(f"/etc/pam.d/{name}")), "login")
    try:
        return bool(pam.PamAuthenticator().authenticate(name, password, service=service, resetcreds=False))
    except (OSError, ValueError, AttributeError) as error:
        _log.error("PAM cannot be asked: %s", error)
        return False
