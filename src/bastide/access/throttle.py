"""Slowing down whoever guesses passwords: a growing delay a user and address, a shorter one an address over all users.

Attempts for one user from one address are looked at one after the other, so that a thousand at once gain nothing.
Memory is bounded: the least recently failing are forgotten first, and everybody after a quarter of an hour.
"""

import asyncio
import contextlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

_FORGET_AFTER = 900.0
_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class _Rule:
    """How many failures are free, and the longest delay (seconds) that further ones lead to."""

    free: int
    longest: float


OWN = _Rule(5, 60.0)
"""For one user from one address."""

SHARED = _Rule(30, 10.0)
"""For an address, over all users; shorter, because innocent users may share it. The host itself is left out."""

_Key = tuple[str, str]


class Throttle:
    """Failures by user and address. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()
        self._turns: dict[_Key, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, userid: str, address: str) -> AsyncIterator[None]:
        """Wait until no other attempt for the user from the address is being looked at."""
        key = _keys(userid, address)[0][0]
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            waiting = self._turns[key][1] - 1
            self._turns[key] = (lock, waiting)
            if not waiting:
                del self._turns[key]

    def blocked(self, userid: str, address: str) -> bool:
        """Whether an attempt comes too early to be looked at."""
        now = self._clock()
        return any(now < self._open_again(key, rule, now) for key, rule in _keys(userid, address))

    def failed(self, userid: str, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        for key, _ in _keys(userid, address):
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = (1 if now - last > _FORGET_AFTER else count + 1, now)
        while len(self._failures) > _LIMIT:
            self._failures.popitem(last=False)

    def succeeded(self, userid: str, address: str) -> None:
        """Forget the failures of a user who knew the password; the address keeps its own."""
        self._failures.pop(_keys(userid, address)[0][0], None)

    def _open_again(self, key: _Key, rule: _Rule, now: float) -> float:
        count, last = self._failures.get(key, (0, now))
        if count < rule.free:
            return now
        return last + min(2.0 ** min(count - rule.free, 10), rule.longest)


def _keys(userid: str, address: str) -> list[tuple[_Key, _Rule]]:
    network = _network(address)
    own = ((userid[:80], network), OWN)
    return [own, (("", network), SHARED)] if network else [own]


def _network(address: str) -> str:
    """Where a caller sits: an IPv6 one owns a whole /64 and could change its address with every guess. Empty: here."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
