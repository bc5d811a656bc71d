"""Where guests can be reached."""

import asyncio
from collections.abc import Iterable
from functools import partial

from bastide.base.errors import BastideError
from bastide.host import links
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms

_DEADLINE = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


async def addresses(rooms: Rooms, guest: Guest) -> list[str]:
    """What a guest can be reached by, IPv4 first, without link-local ones; empty when it does not run.

    A container's kernel is asked, and a VM's agent. Of a VM without an answer this host tells what it knows: whom DHCP
    gave an address, and who answered on the bridge.
    """
    if rooms.engine(guest).state(guest.vmid) is not GuestState.RUNNING:
        return []
    try:
        async with asyncio.timeout(_DEADLINE):
            found = _reachable(one.address for one in await rooms.engine(guest).addresses(guest.vmid))
    except (BastideError, OSError, TimeoutError):
        found = []
    if not found and guest.kind == "qemu":
        found = _reachable(await _heard_of(rooms, guest))
    return found


async def _heard_of(rooms: Rooms, guest: Guest) -> list[str]:
    found: list[str] = []
    for nic in VmConfig.parse(guest.config).net.values():
        if nic.macaddr is None:
            continue
        lease = await rooms.network.lease(nic.macaddr)
        found += [lease] if lease is not None else []
        if nic.bridge is not None and links.exists(nic.bridge):
            neighbours = await links.with_netlink(partial(links.Netlink.neighbours, name=nic.bridge))
            found += [address for hwaddr, address in neighbours if hwaddr == nic.macaddr.upper()]
    return found


def _reachable(found: Iterable[str]) -> list[str]:
    texts = [text for text in dict.fromkeys(found) if text not in _LOOPBACK and not text.lower().startswith("fe80:")]
    return sorted(texts, key=lambda text: ":" in text)
