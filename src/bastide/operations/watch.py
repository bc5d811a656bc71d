"""Noticing guests that stop by themselves, so that their volumes are released and waiting changes applied."""

import asyncio
import logging

from bastide.base.errors import BastideError, NotFound
from bastide.model.guest import GuestState
from bastide.operations.power import tidy_stopped
from bastide.operations.rooms import Rooms

_log = logging.getLogger(__name__)
_INTERVAL = 1.0


async def watch_stops(rooms: Rooms) -> None:
    """Run for the daemon's life. The engine's set of running guests is kept by events, so a look costs nothing."""
    before = rooms.containers.running()
    while True:
        await asyncio.sleep(_INTERVAL)
        now = rooms.containers.running()
        for vmid in before - now:
            await _tidy(rooms, vmid)
        before = now


async def _tidy(rooms: Rooms, vmid: int) -> None:
    if await rooms.locks.get(vmid) is not None:
        return  # the task that stopped it tidies up itself
    try:
        async with rooms.locks.hold(vmid, "stopped", "tidy"):
            if rooms.containers.state(vmid) is GuestState.STOPPED:
                await tidy_stopped(rooms, await rooms.guests.get(vmid), None)
    except NotFound:
        return
    except BastideError as error:
        _log.error("after the stop of guest %d: %s", vmid, error)
