"""Noticing guests that stop, by a task or by themselves: waiting changes are applied and volumes released."""

import asyncio
import logging

from bastide.base.errors import BastideError, NotFound
from bastide.model.guest import GuestState
from bastide.operations.plan import deactivate
from bastide.operations.power import tidy_stopped
from bastide.operations.rooms import Rooms

_log = logging.getLogger(__name__)
_INTERVAL = 1.0


async def watch_stops(rooms: Rooms) -> None:
    """Run for the daemon's life. The engine's set of running guests is kept by events, so a look costs nothing."""
    before, stopped = rooms.containers.running(), set(rooms.containers.ended())
    while True:
        for vmid in list(stopped):
            if await _release(rooms, vmid):
                stopped.discard(vmid)
        await asyncio.sleep(_INTERVAL)
        now = rooms.containers.running()
        stopped |= before - now
        before = now


async def _release(rooms: Rooms, vmid: int) -> bool:
    """Tidy up after a stopped guest; False when it must be tried again."""
    try:
        async with rooms.locks.hold(vmid, "watch", "tidy", deadline=0):
            if rooms.containers.state(vmid) is GuestState.STOPPED:
                guest = await rooms.guests.get(vmid)
                await tidy_stopped(rooms, guest, None)
                await deactivate(rooms, guest)
    except NotFound:
        return True
    except BastideError as error:
        _log.debug("after the stop of guest %d: %s", vmid, error)
        return False
    return True
