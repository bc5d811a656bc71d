"""Freezing a running container for the moment in which its state is taken, and surely letting it go on.

It is written down before it begins, so that the next daemon thaws what a dead one froze (`let_go`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from bastide.base.errors import BastideError, WrongState
from bastide.model.guest import GuestState
from bastide.operations.rooms import Rooms

_PREFIX = "still/"
_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def still(rooms: Rooms, vmid: int) -> AsyncIterator[None]:
    """While entered, no process of the container runs. One that does not run, or was paused before, is left alone.

    Raises DeadlineExceeded when it has processes that cannot be paused now; it goes on then.
    """
    if rooms.containers.state(vmid) is not GuestState.RUNNING:
        yield
        return
    await rooms.store.put(f"{_PREFIX}{vmid}", "")
    try:
        # One that has just ended by itself is still, too.
        with contextlib.suppress(WrongState):
            await rooms.containers.freeze(vmid)
        yield
    finally:
        await asyncio.shield(_go_on(rooms, vmid))


async def let_go(rooms: Rooms) -> None:
    """Thaw the containers that a daemon had frozen for a moment which ended before it could do so itself."""
    for entry in await rooms.store.list(_PREFIX):
        await _go_on(rooms, int(entry.key.removeprefix(_PREFIX)))


async def _go_on(rooms: Rooms, vmid: int) -> None:
    try:
        with contextlib.suppress(WrongState):
            await rooms.containers.thaw(vmid)
    except BastideError as error:
        # The kernel was told; only its answer is late.
        _log.error("container %d: %s", vmid, error)
    await rooms.store.delete(f"{_PREFIX}{vmid}")
