"""Removing a guest of either kind with everything that belongs to it."""

from dataclasses import replace
from typing import cast

from bastide.base.errors import BastideError, Locked, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import TASK_PREFIX, Guest, GuestState
from bastide.operations import pools
from bastide.operations.backup.jobs import forget_guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit
from bastide.operations.volumes import delete_volumes, volumes_of
from bastide.storage.protocol import CloneStorage
from bastide.tasks.tasks import Task


async def destroy_guest(
    rooms: Rooms, by: Identity, vmid: int, *, force: bool = False, unreferenced: bool = False, purge: bool = False
) -> Upid:
    """Delete a stopped guest and its volumes as a task; `force` stops it first.

    With `unreferenced` every volume of that vmid goes, on all storages, also what no configuration names; with
    `purge` backup jobs name it no longer, so that they save no later guest of that vmid.

    Raises NotFound; WrongState when it runs or is protected; Locked. From the moment the record says `destroyed`
    the deletion is final: a crash in the middle is carried on at the next start of the daemon.
    """
    guest = await rooms.guests.get(vmid)
    _refuse(rooms, guest, force=force)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "destroy"):
            guest = await rooms.guests.get(vmid)
            _refuse(rooms, guest, force=force)
            await refuse_base(rooms, guest)
            if rooms.engine(guest).state(vmid) is not GuestState.STOPPED:
                await rooms.engine(guest).stop(vmid)
            guest = await rooms.guests.update(replace(guest, config={**guest.config, "lock": "destroyed"}))
            await erase(rooms, guest, task)
            if unreferenced:
                await _delete_unreferenced(rooms, vmid, task)
            if purge:
                for problem in await forget_guest(rooms, vmid):
                    task.warn(problem)

    return await rooms.tasks.start(f"{TASK_PREFIX[guest.kind]}destroy", str(vmid), by, work)


async def erase(rooms: Rooms, guest: Guest, task: Task | None) -> None:
    """Remove volumes, names, grants and the record of a stopped guest. Safe to repeat.

    Raises WrongState when a volume cannot be removed; the record stays then, so that nothing is orphaned.
    """
    await rooms.engine(guest).cleanup(guest.vmid)
    rooms.engine(guest).forget(guest.vmid)
    problems = await delete_volumes(rooms, volumes_of(guest))
    if problems:
        raise WrongState("; ".join(problems))
    if task is not None:
        task.log(f"removed the volumes of {guest.title}")
    await cloudinit.forget(rooms, guest.vmid)
    await rooms.network.forget(guest.vmid)
    await pools.forget_guest(rooms, guest.vmid)
    # A later guest of the same vmid must not inherit the rights on this one.
    await rooms.access.grants.forget(path=f"/vms/{guest.vmid}")
    await rooms.guests.delete(guest.vmid)


async def refuse_base(rooms: Rooms, guest: Guest) -> None:
    """Raise WrongState when linked clones build on a volume of the guest: half of it would be gone otherwise."""
    for volid in volumes_of(guest) if guest.is_template else ():
        storage = await rooms.storages.get(volid.storage)
        if storage.capabilities.clones and (clones := await cast(CloneStorage, storage).clones_of(volid.name)):
            raise WrongState(f"base volume '{volid}' is still in use by linked clones: {', '.join(clones)}")


async def _delete_unreferenced(rooms: Rooms, vmid: int, task: Task) -> None:
    for storage in await rooms.storages.all():
        if not rooms.storages.enabled(storage.config):
            continue
        for content in ("images", "rootdir"):
            if content in storage.capabilities.contents:
                try:
                    volumes = [VolumeId.parse(volume.volid) for volume in await storage.list(content, vmid)]
                except BastideError as error:  # one that is away keeps what it has
                    task.warn(str(error))
                    continue
                for problem in await delete_volumes(rooms, volumes):
                    task.warn(problem)


def _refuse(rooms: Rooms, guest: Guest, *, force: bool) -> None:
    if guest.config.get("protection"):
        raise WrongState(f"can't remove {guest.title} - protection mode enabled")
    if guest.config.get("lock") not in (None, "destroyed", "suspended"):
        raise Locked(f"{guest.title.partition(' ')[0]} is locked ({guest.config['lock']})")
    if rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED and not force:
        raise WrongState(f"{guest.title} is running - destroy failed: stop it first")
