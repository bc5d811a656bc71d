"""Tickets: of a login (`PVE:user@realm:HEXTIME::base64`), against forged writes (`HEXTIME:base64`), of a console.

The first two are signed and live two hours. Between a login's password and its second factor there is half a ticket
(`PVE:!tfa!JSON:HEXTIME::base64`), good for five minutes and nothing else. A console's ticket is a random text that is
kept in memory until it is used once, half a minute at most; a restart forgets it.
"""

import hashlib
import json
import re
import secrets
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from bastide.access.keys import SigningKeys
from bastide.base.errors import AuthenticationFailed

LIFETIME = 2 * 3600
"""Seconds that a login's ticket is good for."""

HALF_LIFETIME = 300
"""Seconds in which the second factor follows the password."""

CONSOLE_LIFETIME = 30
CLOCK_SKEW = 60
"""Seconds that a ticket may be from the future, after the host's clock was set back."""

_TICKET = re.compile(
    r"PVE:(?P<userid>[^\s:!]{1,64}):(?P<time>[0-9A-F]{8})::(?P<signature>[A-Za-z0-9+/=]{1,128})", re.ASCII
)
_HALF = re.compile(
    r"PVE:!tfa!(?P<challenge>[A-Za-z0-9%._~-]{1,65536}):(?P<time>[0-9A-F]{8})::(?P<signature>[A-Za-z0-9+/=]{1,128})",
    re.ASCII,
)
_CSRF = re.compile(r"(?P<time>[0-9A-F]{8}):(?P<signature>[A-Za-z0-9+/=]{1,128})", re.ASCII)
_CONSOLE_LIMIT = 4096


class Tickets:
    """Issues and verifies what a login gets."""

    def __init__(self, keys: SigningKeys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, userid: str) -> tuple[str, str]:
        """A ticket and its CSRF prevention token."""
        now = f"{int(self._clock()):08X}"
        plain = f"PVE:{userid}:{now}"
        return f"{plain}::{self._keys.sign('ticket', plain)}", f"{now}:{self._keys.sign('csrf', f'{now}:{userid}')}"

    def verify(self, ticket: str) -> str:
        """The user id of a good ticket. Raises AuthenticationFailed."""
        match = _TICKET.fullmatch(ticket)
        if match is None or not self._is_fresh(match["time"]):
            raise AuthenticationFailed("permission denied - invalid PVE ticket")
        if not self._keys.verify("ticket", f"PVE:{match['userid']}:{match['time']}", match["signature"]):
            raise AuthenticationFailed("permission denied - invalid PVE ticket")
        return match["userid"]

    def issue_half(self, userid: str, state: str, challenge: Mapping[str, Any]) -> str:
        """Half a ticket for a user whose factors are in this state; what is asked stands in it for all to read."""
        plain = f"PVE:!tfa!{quote(json.dumps(challenge), safe='')}:{int(self._clock()):08X}"
        return f"{plain}::{self._keys.sign('second-step', f'{plain}:{userid}:{state}')}"

    def verify_half(self, ticket: str, userid: str, state: str) -> dict[str, Any]:
        """What a good half ticket of the user asks. Raises AuthenticationFailed, also when the factors changed."""
        match = _HALF.fullmatch(ticket)
        if match is None or not self._is_fresh(match["time"], HALF_LIFETIME):
            raise AuthenticationFailed("permission denied - invalid tfa challenge")
        plain = ticket[: match.end("time")]
        if not self._keys.verify("second-step", f"{plain}:{userid}:{state}", match["signature"]):
            raise AuthenticationFailed("permission denied - invalid tfa challenge")
        challenge: dict[str, Any] = json.loads(unquote(match["challenge"]))
        return challenge

    def verify_csrf(self, token: str, userid: str) -> None:
        """Raise AuthenticationFailed unless the token was issued to the user and is fresh."""
        match = _CSRF.fullmatch(token)
        if match is None or not self._is_fresh(match["time"]):
            raise AuthenticationFailed("Permission denied - invalid csrf token")
        if not self._keys.verify("csrf", f"{match['time']}:{userid}", match["signature"]):
            raise AuthenticationFailed("Permission denied - invalid csrf token")

    def _is_fresh(self, hextime: str, lifetime: int = LIFETIME) -> bool:
        return -CLOCK_SKEW <= self._clock() - int(hextime, 16) <= lifetime


@dataclass(frozen=True, slots=True)
class _Console:
    user: str
    path: str
    port: int
    until: float


class ConsoleTickets:
    """Tickets of consoles, each for one user (or token), one path and one port, good for one use."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._issued: OrderedDict[bytes, _Console] = OrderedDict()

    def issue(self, user: str, path: str, port: int) -> str:
        """A ticket `PVEVNC:HEXTIME::base64` for a console."""
        ticket = f"PVEVNC:{int(time.time()):08X}::{b64encode(secrets.token_bytes(33)).decode()}"
        self._forget_old()
        self._issued[_key(ticket)] = _Console(user, path, port, self._clock() + CONSOLE_LIFETIME)
        return ticket

    def use(self, ticket: str, user: str, path: str, port: int) -> None:
        """Use up a ticket. Raises AuthenticationFailed when it is not for exactly this, or not any more."""
        self._verify(self._issued.pop(_key(ticket), None), (user, path, port))

    def look(self, ticket: str, user: str, path: str, port: int | None = None) -> None:
        """Verify a ticket and leave it usable (`POST /access/vncticket`). Raises AuthenticationFailed."""
        console = self._issued.get(_key(ticket))
        self._verify(console, (user, path, console.port if console and port is None else port))

    def _verify(self, console: _Console | None, wanted: tuple[str, str, int | None]) -> None:
        if console is None or self._clock() > console.until or wanted != (console.user, console.path, console.port):
            raise AuthenticationFailed("permission denied - invalid PVEVNC ticket")

    def _forget_old(self) -> None:
        now = self._clock()
        while self._issued:
            first = next(iter(self._issued.values()))
            if now <= first.until and len(self._issued) < _CONSOLE_LIMIT:
                return
            self._issued.popitem(last=False)


def _key(ticket: str) -> bytes:
    """Looked up by hash, so that the time of the look-up says nothing of a ticket."""
    return hashlib.sha256(ticket.encode(errors="replace")).digest()
