"""Keeping a running VM still while its state is taken, and letting it go whatever happens.

Each hold is written down before it begins, so that the next daemon lets go of what a dead one held (`let_go`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bastide.base.errors import BastideError, WrongState
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent
from bastide.tasks.tasks import Task

FREEZE_SECONDS = 10.0
"""The longest that a guest's agent may take to still its file systems, and that they then are still."""

_PREFIX = "standing/"


@contextlib.asynccontextmanager
async def frozen(rooms: Rooms, guest: Guest, task: Task) -> AsyncIterator[None]:
    """The guest's file systems are still where an agent can still them; an agent that cannot is a warning."""
    if not await _freeze(rooms, guest, task):
        yield
        return
    try:
        yield
    finally:
        await asyncio.shield(_thaw(rooms, guest, task))


@contextlib.asynccontextmanager
async def standing(rooms: Rooms, guest: Guest) -> AsyncIterator[None]:
    """The body may stop the virtual CPUs: they go on afterwards. A guest that was paused before stays so."""
    if rooms.vms.state(guest.vmid) is not GuestState.RUNNING:
        yield
        return
    key = f"{_PREFIX}{guest.vmid}"
    await rooms.store.put(key, "")
    try:
        yield
    finally:
        await asyncio.shield(_go_on(rooms, guest.vmid))


async def let_go(rooms: Rooms) -> None:
    """Let the guests go on that a daemon had stopped for a moment which ended before it could do so itself."""
    for entry in await rooms.store.list(_PREFIX):
        with contextlib.suppress(BastideError):
            await _go_on(rooms, int(entry.key.removeprefix(_PREFIX)))


async def _go_on(rooms: Rooms, vmid: int) -> None:
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        with contextlib.suppress(WrongState):
            await rooms.vms.resume(vmid)
    await rooms.store.delete(f"{_PREFIX}{vmid}")


async def _freeze(rooms: Rooms, guest: Guest, task: Task) -> bool:
    wanted = VmConfig.parse(guest.config).agent
    if wanted is None or not wanted.enabled or wanted.freeze_fs is False:
        return False
    if rooms.vms.state(guest.vmid) is not GuestState.RUNNING or not await rooms.vms.agent_answers(guest.vmid):
        return False
    try:
        count = await agent.freeze(rooms, guest.vmid, deadline=FREEZE_SECONDS)
    except BastideError as error:
        task.warn(f"the guest's file systems could not be frozen: {error}")
        return False
    task.log(f"the guest's agent has frozen {count} file systems")
    return True


async def _thaw(rooms: Rooms, guest: Guest, task: Task) -> None:
    try:
        await agent.thaw(rooms, guest.vmid)
    except BastideError as error:
        task.warn(f"the guest's file systems could not be thawed at once: {error}")
