"""How many requests one address may have at work, so that nobody takes all the places."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MOST = 256
"""A third of the streams. The next request waits until one of the same address is done."""

_NETWORK = 64  # bits of an IPv6 address that one client has at most (RFC 6177)


class Shares:
    """Places of requests by the address that they come from."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def place(self, address: str, patience: float) -> AsyncIterator[bool]:
        """Hold a place of an address's; False when none was free within `patience` seconds."""
        key = _whose(address)
        turns, users = self._turns.get(key, (asyncio.Semaphore(self._most), 0))
        self._turns[key] = (turns, users + 1)
        held = False
        try:
            try:
                async with asyncio.timeout(patience):
                    held = await turns.acquire()
            except TimeoutError:
                pass
            yield held
        finally:
            if held:
                turns.release()
            users = self._turns[key][1] - 1
            if users:
                self._turns[key] = (turns, users)
            else:
                del self._turns[key]


def _whose(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network."""
    given = ipaddress.ip_address(address)
    if given.version == 4:
        return address
    if given.ipv4_mapped is not None:
        return str(given.ipv4_mapped)
    return str(ipaddress.ip_network((int(given), _NETWORK), strict=False))
