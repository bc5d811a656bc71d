"""Guests that are stopped for their backup, and surely start again: what was going to be done is written down first."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from bastide.base.errors import BastideError
from bastide.model.access import ROOT
from bastide.model.guest import Guest, GuestState
from bastide.operations.ct import power as ct_power
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power as vm_power
from bastide.state.store import Entry

_PREFIX = "backup-stop/"
_RETRY_SECONDS = 10.0
_LOOK_SECONDS = 0.5
# As long as a backup waits by default (vzdump(1), stopwait).
_GOING_DOWN = 600.0
_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def to_be_started(rooms: Rooms, vmid: int) -> AsyncIterator[None]:
    """Should the daemon die while entered, the next one starts the guest, if it does not run by then.

    Whoever enters starts it again before leaving, whatever has failed.
    """
    guest = await rooms.guests.get(vmid)
    try:
        await rooms.store.put(f"{_PREFIX}{vmid}", str(rooms.engine(guest).init_pid(vmid)))
        yield
    finally:
        await rooms.store.delete(f"{_PREFIX}{vmid}")


async def waiting(rooms: Rooms) -> set[int]:
    """The guests that are to be started again: what a daemon that died had stopped is among them."""
    return {int(entry.key.removeprefix(_PREFIX)) for entry in await rooms.store.list(_PREFIX)}


async def finish(rooms: Rooms) -> None:
    """Once the network is there: start what a daemon that died had stopped for a backup, each by a task of its own.

    One that somebody works on by then, such as a job that was missed, is started afterwards.
    """
    await asyncio.gather(*(_finish(rooms, entry) for entry in await rooms.store.list(_PREFIX)))


async def _finish(rooms: Rooms, entry: Entry) -> None:
    vmid = int(entry.key.removeprefix(_PREFIX))
    try:
        guest = await rooms.guests.get(vmid)
        await _gone_down(rooms, guest, entry)
        if await rooms.store.get(entry.key) != entry:
            return  # The next backup has seen to it.
        while rooms.engine(guest).state(vmid) is GuestState.STOPPED:
            _log.warning("guest %d was stopped for a backup that was interrupted: starting it", vmid)
            if await _started(rooms, guest) or await rooms.locks.get(vmid) is None:
                break
            await asyncio.sleep(_RETRY_SECONDS)
    except BastideError as error:
        _log.error("guest %d is not started again: %s", vmid, error)
    await rooms.store.delete(entry.key)


async def _gone_down(rooms: Rooms, guest: Guest, entry: Entry) -> None:
    """Wait until a guest that runs on, as the process that was written down, has ended: it may have been told to.

    One that does not for so long was not told, or does not obey. Nor is one waited for that is saved anew.
    """
    engine, vmid = rooms.engine(guest), guest.vmid
    # One that is nearly down has no process any more.
    known = (entry.value, str(None))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GOING_DOWN):
            while engine.state(vmid) is not GuestState.STOPPED and str(engine.init_pid(vmid)) in known:
                await asyncio.sleep(_LOOK_SECONDS)
                if await rooms.store.get(entry.key) != entry:
                    break


async def _started(rooms: Rooms, guest: Guest) -> bool:
    start = ct_power.start if guest.kind == "lxc" else vm_power.start
    status = (await rooms.tasks.wait(await start(rooms, ROOT, guest.vmid))).exitstatus or ""
    return status == "OK" or status.startswith("WARNINGS")
