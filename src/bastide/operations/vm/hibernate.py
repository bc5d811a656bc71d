"""Suspending a VM to disk: its memory is kept in a volume, its process ends, and it goes on where it was.

What a daemon that dies has left is told by the record: `suspending` is undone until `runningmachine` says that the
memory is whole, and finished from then on; `suspended` while the VM runs means that it was going on already.
"""

import logging
import time
from contextlib import AsyncExitStack

from bastide.base.errors import BastideError, Locked, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.operations.rooms import Rooms
from bastide.operations.vm.memory import Memory, make_memory_volume, memory_volume, save_memory, sync
from bastide.operations.volumes import delete_volumes
from bastide.tasks.tasks import Task

_KEYS = frozenset({"lock", "vmstate", "runningmachine"})
_UNKNOWN = "unknown"
_NOT_YET_RUNNING = ("inmigrate", "prelaunch")
_log = logging.getLogger(__name__)


async def suspend_to_disk(rooms: Rooms, by: Identity, vmid: int, storage: str | None = None) -> Upid:
    """Keep a running VM's memory in a volume and end its process, as a task; it runs on when that fails.

    Raises NotFound, WrongState, Locked.
    """
    _check_suspend(rooms, await rooms.guests.get(vmid, "qemu"))

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "suspend") as held, AsyncExitStack() as undo:
            guest = await rooms.guests.get(vmid, "qemu")
            _check_suspend(rooms, guest)
            label = time.strftime("suspend-%Y-%m-%d", time.gmtime())
            volid = await memory_volume(rooms, guest, label, storage)
            guest = await rooms.guests.update(_with(guest, lock="suspending", vmstate=str(volid)))
            undo.push_async_callback(_undo, rooms, vmid)
            await held.record(str(volid))
            await make_memory_volume(rooms, guest, volid)
            task.log(f"saving the memory to '{volid}'")
            await save_memory(rooms, guest, volid)
            await sync(rooms, volid)
            status = await rooms.vms.status(vmid)
            machine = (status.machine if status is not None else "") or _UNKNOWN
            await rooms.guests.update(_with(guest, runningmachine=machine))
            undo.pop_all()
            await _end(rooms, vmid)

    return await rooms.tasks.start("qmsuspend", str(vmid), by, work)


def is_suspended(guest: Guest) -> bool:
    """Whether its memory waits in a volume."""
    return guest.config.get("lock") == "suspended"


def memory_of(guest: Guest) -> Memory:
    """The memory of a suspended VM."""
    machine = str(guest.config.get("runningmachine", _UNKNOWN))
    return Memory(VolumeId.parse(str(guest.config["vmstate"])), None if machine == _UNKNOWN else machine)


async def finish(rooms: Rooms, guest: Guest) -> None:
    """At the daemon's start: undo or finish what was interrupted. A failure is logged."""
    try:
        if guest.config.get("lock") == "suspending":
            await (_end(rooms, guest.vmid) if "runningmachine" in guest.config else _undo(rooms, guest.vmid))
        elif is_suspended(guest) and (status := await rooms.vms.status(guest.vmid)) is not None:
            if status.state in _NOT_YET_RUNNING:
                await rooms.vms.stop(guest.vmid)
            else:
                await forget(rooms, guest.vmid, None)
    except BastideError as error:
        _log.error("VM %d: %s", guest.vmid, error)


async def _end(rooms: Rooms, vmid: int) -> None:
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        await rooms.vms.stop(vmid)
    await rooms.guests.update(_with(await rooms.guests.get(vmid), lock="suspended"))


async def _undo(rooms: Rooms, vmid: int) -> None:
    """Let the VM run on, without the volume that would have been its memory's."""
    # One that runs may be stopped yet, by the end of what a dead daemon began.
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        await rooms.vms.resume(vmid)
    await forget(rooms, vmid, None)


async def forget(rooms: Rooms, vmid: int, task: Task | None) -> None:
    """Free the memory's volume and unlock the VM. May be repeated."""
    guest = await rooms.guests.get(vmid)
    volume = guest.config.get("vmstate")
    for problem in await delete_volumes(rooms, [VolumeId.parse(str(volume))] if volume else []):
        if task is not None:
            task.warn(problem)
    rest = {key: value for key, value in guest.config.items() if key not in _KEYS}
    await rooms.guests.update(guest.with_config(rest))


def _with(guest: Guest, **values: Scalar) -> Guest:
    return guest.with_config({**guest.config, **values})


def _check_suspend(rooms: Rooms, guest: Guest) -> None:
    if guest.config.get("lock"):
        raise Locked(f"VM is locked ({guest.config['lock']})")
    if rooms.vms.state(guest.vmid) is not GuestState.RUNNING:
        raise WrongState(f"VM {guest.vmid} not running")
