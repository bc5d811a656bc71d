"""Slowing down whoever guesses passwords: a growing delay a user and address, and an address over all users.

Memory is bounded: the least recently failing are forgotten first, and everybody after a quarter of an hour.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

FREE_FAILURES = 5
"""Failures of one user from one address before the delay begins."""

FREE_FAILURES_OF_ADDRESS = 30
LONGEST_DELAY = 60.0
_FORGET_AFTER = 900.0
_LIMIT = 8192


class Throttle:
    """Failures by user and address. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def attempt(self, userid: str, address: str) -> bool:
        """Whether a password may be looked at now. Counts as a failure until `succeeded`, so that a thousand
        attempts at once are as slow as one after the other; an attempt that comes too early does not count.
        """
        now = self._clock()
        keys = _keys(userid, address)
        if any(now < self._open_again(key, free, now) for key, free in keys):
            return False
        for key, _ in keys:
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = (1 if now - last > _FORGET_AFTER else count + 1, now)
        while len(self._failures) > _LIMIT:
            self._failures.popitem(last=False)
        return True

    def succeeded(self, userid: str, address: str) -> None:
        """Forget the failures of a user who knew the password; the address keeps its others."""
        own, *shared = _keys(userid, address)
        self._failures.pop(own[0], None)
        for key, _ in shared:
            count, last = self._failures.get(key, (0, 0.0))
            if count:
                self._failures[key] = (count - 1, last)

    def _open_again(self, key: tuple[str, str], free: int, now: float) -> float:
        count, last = self._failures.get(key, (0, now))
        if count < free:
            return now
        return last + min(2.0 ** min(count - free, 10), LONGEST_DELAY)


def _keys(userid: str, address: str) -> list[tuple[tuple[str, str], int]]:
    network = _network(address)
    own = ((userid[:80], network), FREE_FAILURES)
    return [own, (("", network), FREE_FAILURES_OF_ADDRESS)] if network else [own]


def _network(address: str) -> str:
    """An IPv6 caller owns a whole /64 and could change its address with every guess."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
