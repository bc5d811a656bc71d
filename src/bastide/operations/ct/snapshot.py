"""Snapshots of containers: frozen for the instant, one of each volume, and the way back."""

from contextlib import AsyncExitStack

from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import snapshots
from bastide.operations.ct import power
from bastide.operations.ct.plan import deactivate
from bastide.operations.ct.stillness import still
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task


async def take_snapshot(rooms: Rooms, by: Identity, vmid: int, name: str, description: str | None = None) -> Upid:
    """Take a snapshot of a running or stopped container as a task.

    What can be refused is refused before the task begins: NotFound, InvalidParameter, AlreadyExists, WrongState,
    Locked, NotSupported. Whatever fails, or a crash, leaves no snapshot of any volume.
    """
    await snapshots.check_new(rooms, await rooms.guests.get(vmid, "lxc"), name)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "snapshot"):
            await take_locked(rooms, await rooms.guests.get(vmid, "lxc"), name, task, description)

    return await rooms.tasks.start("vzsnapshot", str(vmid), by, work)


async def take_locked(rooms: Rooms, guest: Guest, name: str, task: Task, description: str | None = None) -> None:
    """Take a snapshot of a container whose lock the task holds."""
    async with AsyncExitStack() as undo:
        await prepare(rooms, guest, name, task, undo, description=description)
        await snapshots.complete(rooms, guest.vmid, name)
        undo.pop_all()


async def prepare(
    rooms: Rooms, guest: Guest, name: str, task: Task, undo: AsyncExitStack, *, description: str | None = None
) -> None:
    """Take the snapshot of every volume; the inverse goes onto `undo`, and a restart of the daemon does the same."""
    if not await snapshots.check_new(rooms, guest, name):
        task.log(f"the storage copies for a snapshot: {guest.title} stands still until it is done")
    guest = await snapshots.begin(rooms, guest, name, description)
    undo.push_async_callback(snapshots.discard, rooms, guest.vmid, name, MEANS, task)
    async with still(rooms, guest.vmid):
        await snapshots.take_volumes(rooms, guest.snapshots[name])
    task.log(f"took snapshot '{name}' of {len(guest.snapshots[name].volumes)} volumes")


async def roll_back(rooms: Rooms, by: Identity, vmid: int, name: str, *, start: bool = False) -> Upid:
    """Take a container back to a snapshot as a task: stopped if it runs, and started with `start`.

    Raises NotFound, WrongState, Locked.
    """
    snapshots.check_rollback(await rooms.guests.get(vmid, "lxc"), name)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "rollback"):
            guest = await snapshots.roll_back(rooms, await rooms.guests.get(vmid, "lxc"), name, MEANS, task)
            if start:
                await power.start_locked(rooms, guest, task)
            else:
                await rooms.network.register(vmid, guest.name, dict(ContainerConfig.parse(guest.config).net))

    return await rooms.tasks.start("vzrollback", str(vmid), by, work)


async def delete_snapshot(rooms: Rooms, by: Identity, vmid: int, name: str, *, force: bool = False) -> Upid:
    """Delete a snapshot as a task; with `force` its record goes even when a volume's snapshot cannot be deleted.

    Raises NotFound, Locked.
    """
    guest = await rooms.guests.get(vmid, "lxc")
    if snapshots.find(guest, name).step is None:
        snapshots.check_unlocked(guest)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "snapshot-delete"):
            guest = await rooms.guests.get(vmid, "lxc")
            if snapshots.find(guest, name).step is None:
                snapshots.check_unlocked(guest)
            await snapshots.delete(rooms, guest, name, MEANS, task, force=force)

    return await rooms.tasks.start("vzdelsnapshot", str(vmid), by, work)


async def _halt(rooms: Rooms, guest: Guest, task: Task | None) -> None:
    if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
        await rooms.containers.stop(guest.vmid)
    await power.tidy_stopped(rooms, guest, task)
    await deactivate(rooms, guest)


MEANS = snapshots.Means(halt=_halt)
"""A container's part in snapshots."""
