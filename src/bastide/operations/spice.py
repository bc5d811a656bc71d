"""Screens of VMs for SPICE clients, the way Proxmox VE offers them.

A client opens a connection for each of its channels, all with the same ticket, and knows a password besides that QEMU
asks for. `Spice.offer` begins a task that lasts as long as any of them; new ones are let in for half a minute.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bastide.base.errors import AuthenticationFailed, DeadlineExceeded, WrongState
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

SECONDS = 30
"""How long a ticket lets connections in, and how long its password is good."""

_MOST_CHANNELS = 32


@dataclass(eq=False, slots=True)
class Offer:
    """What a client needs. `init` is the guest's process: another run is another."""

    vmid: int
    by: Identity
    ticket: str
    password: str
    init: int | None
    until: float
    channels: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Spice:
    """The screens that are offered or open. Kept in memory: neither outlives the daemon."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}

    async def offer(self, rooms: Rooms, guest: Guest, by: Identity) -> tuple[Offer, Upid]:
        """Offer a running VM's screen. Raises WrongState for a VM that does not run or has no SPICE."""
        if rooms.vms.state(guest.vmid) is GuestState.STOPPED:
            raise WrongState(f"VM {guest.vmid} not running")
        offer = Offer(
            vmid=guest.vmid,
            by=by,
            ticket=secrets.token_hex(24),
            password=secrets.token_hex(16),
            init=rooms.vms.init_pid(guest.vmid),
            until=time.monotonic() + SECONDS,
        )
        await rooms.vms.spice_password(guest.vmid, offer.password, SECONDS)
        self._offers[offer.ticket] = offer

        async def work(task: Task) -> None:
            task.log(f"starting SPICE proxy for VM {guest.vmid}")
            try:
                await _last(offer)
            finally:
                offer.ended.set()
                self._offers.pop(offer.ticket, None)

        try:
            return offer, await rooms.tasks.start("spiceproxy", str(guest.vmid), by, work)
        except BaseException:
            self._offers.pop(offer.ticket, None)
            raise

    @contextlib.asynccontextmanager
    async def channel(self, rooms: Rooms, ticket: str) -> AsyncIterator[tuple[Offer, int]]:
        """A channel of the screen that a ticket is for: the offer, and a connected descriptor, the caller's to close.

        Raises AuthenticationFailed for any other ticket, WrongState.
        """
        offer = self._offers.get(ticket)
        if offer is None or time.monotonic() > offer.until or offer.channels >= _MOST_CHANNELS:
            raise AuthenticationFailed("permission denied - invalid SPICE ticket")
        if rooms.vms.init_pid(offer.vmid) != offer.init:
            raise WrongState(f"VM {offer.vmid} was restarted since its screen was offered")
        offer.channels += 1
        offer.changed.set()
        try:
            yield offer, await rooms.vms.spice(offer.vmid)
        finally:
            offer.channels -= 1
            offer.changed.set()


async def _last(offer: Offer) -> None:
    """Return when nobody is there any more, and nobody can come."""
    came = False
    while True:
        came = came or offer.channels > 0
        left = offer.until - time.monotonic()
        if offer.channels == 0 and left <= 0:
            if not came:
                raise DeadlineExceeded(f"connection timed out: nobody came within {SECONDS} seconds")
            return
        offer.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left if left > 0 else None):
                await offer.changed.wait()
