"""Noticing guests that stop, by a task or by themselves: waiting changes are applied and volumes released."""

import asyncio
import logging

from bastide.base.errors import BastideError, NotFound
from bastide.model.guest import GuestState
from bastide.operations.ct.plan import deactivate
from bastide.operations.ct.power import tidy_stopped
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power as vm_power

_log = logging.getLogger(__name__)
_INTERVAL = 1.0


async def watch_stops(rooms: Rooms) -> None:
    """Run for the daemon's life. The engine's set of running guests is kept by events, so a look costs nothing."""
    before, stopped = rooms.engines.running(), set(rooms.engines.ended())
    while True:
        for vmid in list(stopped):
            if await _release(rooms, vmid):
                stopped.discard(vmid)
        await asyncio.sleep(_INTERVAL)
        now = rooms.engines.running()
        stopped |= before - now
        before = now


async def _release(rooms: Rooms, vmid: int) -> bool:
    """Tidy up after a stopped guest; False when it must be tried again."""
    try:
        async with rooms.locks.hold(vmid, "watch", "tidy", deadline=0):
            guest = await rooms.guests.get(vmid)
            if rooms.engine(guest).state(vmid) is not GuestState.STOPPED:
                return True
            if guest.kind == "qemu":
                await vm_power.tidy_stopped(rooms, guest, None)
            else:
                await tidy_stopped(rooms, guest, None)
                await deactivate(rooms, guest)
    except NotFound:
        return True
    except BastideError as error:
        _log.debug("after the stop of guest %d: %s", vmid, error)
        return False
    return True
