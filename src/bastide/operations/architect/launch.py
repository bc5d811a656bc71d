"""The story of launching one service: its image, a guest of the kind that fits it, and the service in it.

It is what a plan does for one of its guests, and leaves no record of a plan. What fails leaves nothing behind.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace

from bastide.architect.differences import Order
from bastide.base.errors import AlreadyExists, BastideError, DeadlineExceeded
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.homelab import PlannedService
from bastide.model.service import ENGINE
from bastide.operations.architect import deploy
from bastide.operations.architect.apply import Permit
from bastide.operations.architect.guest_images import Images
from bastide.operations.architect.plan import decide_alone
from bastide.operations.architect.plans import reserved
from bastide.operations.architect.subtasks import finished
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A guest to launch, for whom, and whether it stays when its service does not answer."""

    rooms: Rooms
    by: Identity
    permit: Permit
    order: Order
    keep: bool


async def launch(rooms: Rooms, by: Identity, service: PlannedService, permit: Permit, *, keep: bool = False) -> Upid:
    """Make a guest of what the architect decides for a service, start it and install the service, as a task.

    The task's id is the guest's vmid. A guest that runs and has not answered in time is kept, and with `keep` any that
    was made. Raises AlreadyExists for a taken name, InvalidParameter, NotFound, PermissionDenied.
    """
    wanted = _Wanted(rooms, by, permit, await decide_alone(rooms, service), keep)
    await permit.image(wanted.order.image, wanted.order)
    vmid = await _free(wanted)
    # Last, so that whoever may make no guest does not learn what others are called.
    if any(guest.name == service.name for guest in await rooms.guests.list()):
        raise AlreadyExists(f"a guest '{service.name}' already exists: choose another name")

    async def work(task: Task) -> None:
        await _launch(wanted, vmid, task)

    return await rooms.tasks.start("launch", str(vmid), by, work)


async def _launch(wanted: _Wanted, vmid: int, task: Task) -> None:
    rooms, by, order = wanted.rooms, wanted.by, wanted.order
    task.log(order.advice.summary)
    images = Images(rooms, by, task)
    try:
        volume = await images.obtain(order.image, ENGINE[order.kind])
    finally:
        await images.close()
    vmid = await _make(wanted, deploy.Making(order, order.service.name, vmid, volume), task)
    try:
        await deploy.finish(rooms, by, order, await rooms.guests.get(vmid), task)
    except DeadlineExceeded:
        raise  # its message says that the guest is kept, and where to look
    except (BastideError, asyncio.CancelledError):
        if not wanted.keep:
            await _undo(wanted, vmid, task)
        raise


async def _make(wanted: _Wanted, making: deploy.Making, task: Task) -> int:
    """Make the guest under the vmid that was chosen, or under the next free one when another guest took it."""
    tries = 1
    while True:
        task.log(f"making {making.one.kind.upper()} {making.vmid} ({making.name})")
        try:
            await deploy.make(wanted.rooms, wanted.by, making)
            return making.vmid
        except AlreadyExists:
            if tries == _TRIES:
                raise
        making, tries = replace(making, vmid=await _free(wanted)), tries + 1


async def _free(wanted: _Wanted) -> int:
    """A vmid that no guest and no plan has. Raises PermissionDenied when the caller may make none under it."""
    taken = await reserved(wanted.rooms)
    vmid = await wanted.rooms.guests.next_vmid()
    while vmid in taken:
        vmid = await wanted.rooms.guests.next_vmid(vmid + 1)
    await wanted.permit.create(wanted.order, wanted.order.service.name, vmid)
    return vmid


async def _undo(wanted: _Wanted, vmid: int, task: Task) -> None:
    task.log(f"removing {vmid}, so that nothing is left behind")
    with contextlib.suppress(BastideError):  # why it is removed counts more, and the removal's own task tells
        await finished(wanted.rooms, destroy_guest(wanted.rooms, wanted.by, vmid, force=True))
