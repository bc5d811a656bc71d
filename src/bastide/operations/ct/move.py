"""Moving a container's volume to another storage, or to another container."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from bastide.base.errors import Conflict, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import snapshots
from bastide.operations.ct.copies import Making, Origin, VolumeCopy, make_copy, plan_copy
from bastide.operations.ct.plan import deactivate
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes, free_numbers, owned_volumes, volumes_of, with_volume
from bastide.tasks.tasks import Task


@dataclass(frozen=True, slots=True)
class Move:
    """A volume by its key, and the storage, or the other container and the key there, that it goes to.

    With `delete` the old volume goes; else it becomes unused. The digests are of what the caller has read. `limit` in
    KiB a second for files.
    """

    key: str
    storage: str | None = None
    target_vmid: int | None = None
    target_key: str | None = None
    delete: bool = False
    digest: str | None = None
    target_digest: str | None = None
    limit: float | None = None


async def move_volume(rooms: Rooms, by: Identity, vmid: int, move: Move) -> Upid:
    """Move a stopped container's volume as a task.

    The copy is made first; then the record names it, and the old volume is removed or kept as unused. Another container
    takes the volume over. Raises NotFound, InvalidParameter, WrongState, Conflict, Locked.
    """
    owner = move.target_vmid or vmid
    await _check(rooms, await rooms.guests.get(vmid, "lxc"), await rooms.guests.get(owner, "lxc"), move)

    async def work(task: Task) -> None:
        async with AsyncExitStack() as locks:
            held = {}
            for each in sorted({vmid, owner}):
                held[each] = await locks.enter_async_context(rooms.locks.hold(each, task.upid, "move"))
            guest, target = await rooms.guests.get(vmid, "lxc"), await rooms.guests.get(owner, "lxc")
            await _check(rooms, guest, target, move)
            await deactivate(rooms, guest)
            copy = await _plan(rooms, guest, target, move)
            await held[vmid].record(str(copy.source))
            await _move(rooms, guest, copy, move, Making(target, held[owner], task, "move", move.limit))

    return await rooms.tasks.start("move_volume", str(vmid), by, work)


async def _move(rooms: Rooms, guest: Guest, copy: VolumeCopy, move: Move, making: Making) -> None:
    async with AsyncExitStack() as undo:
        undo.push_async_callback(_discard, rooms, copy.target, making.task)
        await make_copy(rooms, copy, Origin(guest), making)
        text = _text(guest, move.key, copy)
        rest = {key: value for key, value in guest.config.items() if key != move.key}
        if making.guest.vmid != guest.vmid:
            target = making.guest
            # Between the two the volume is there twice, and no file is lost.
            await rooms.guests.update(target.with_config({**target.config, copy.key: text}))
            undo.pop_all()
            guest = await rooms.guests.update(guest.with_config(rest))
        else:
            kept = [] if move.delete else [str(copy.source)]
            config = keep_unused(kept, {**rest, move.key: text}, guest.vmid)
            guest = await rooms.guests.update(guest.with_config(config))
            undo.pop_all()
    if move.delete or making.guest.vmid != guest.vmid:
        await _remove(rooms, guest, copy.source, making.task)


def _text(guest: Guest, key: str, copy: VolumeCopy) -> str:
    """The option that names the copy; an unused volume has no options."""
    return str(copy.target) if copy.key.startswith("unused") else with_volume(guest.config[key], copy.target)


async def _remove(rooms: Rooms, guest: Guest, old: VolumeId, task: Task) -> None:
    """Remove the old volume; one that cannot be removed is listed as unused."""
    for problem in await delete_volumes(rooms, [old]):
        task.warn(problem)
        config = keep_unused([str(old)], guest.config, guest.vmid)
        await rooms.guests.update(guest.with_config(config))


async def _discard(rooms: Rooms, volid: VolumeId, task: Task) -> None:
    for problem in await delete_volumes(rooms, [volid]):
        task.warn(problem)


async def _plan(rooms: Rooms, guest: Guest, target: Guest, move: Move) -> VolumeCopy:
    source = VolumeId.parse(owned_volumes(guest.config, guest.vmid)[move.key])
    place = move.storage or source.storage
    numbers = await free_numbers(rooms, target.vmid, {place}, volumes_of(target))
    return await plan_copy(rooms, move.target_key or move.key, source, target.vmid, next(numbers), storage=place)


async def _check(rooms: Rooms, guest: Guest, target: Guest, move: Move) -> None:
    for each, digest in ((guest, move.digest), (target, move.target_digest)):
        if digest is not None and digest != each.digest:
            raise Conflict("detected modified configuration - file changed by other user? Try again.")
        snapshots.check_unlocked(each)
        if each.is_template:
            raise WrongState(f"{each.title} is a template: its volumes stay where they are")
        if rooms.containers.state(each.vmid) is not GuestState.STOPPED:
            raise WrongState(f"{each.title} is running: stop it to move its volume")
        if each.pending or each.removed:
            raise WrongState(f"{each.title} has changes that wait for its next start")
    volume = owned_volumes(guest.config, guest.vmid).get(move.key)
    if volume is None:
        raise InvalidParameter({"volume": f"{guest.title} has no volume '{move.key}'"})
    if target.vmid != guest.vmid:
        _check_other(guest, target, move, volume)
    elif move.storage is None:
        raise InvalidParameter({"storage": "say where to: a storage, or another container (target-vmid)"})
    elif VolumeId.parse(volume).storage == move.storage:
        raise InvalidParameter({"storage": f"'{move.key}' is on the storage '{move.storage}' already"})
    elif move.delete:
        snapshots.check_unheld(guest, {move.key: volume})
    if move.storage is not None:
        await rooms.storages.containers(move.storage)


def _check_other(guest: Guest, target: Guest, move: Move, volume: str) -> None:
    key = move.target_key or move.key
    if move.key == "rootfs" or key == "rootfs":
        raise InvalidParameter({"volume": "a root file system stays with its container; clone the container instead"})
    if key in target.config:
        raise InvalidParameter({"target-volume": f"{target.title} has a volume '{key}' already"})
    if move.key.startswith("unused") and not key.startswith("unused"):
        raise InvalidParameter({"target-volume": "an unused volume has no place in the guest: it stays unused"})
    # Two volumes of one guest cannot be mounted at one place.
    ContainerConfig.parse({**target.config, key: guest.config[move.key]})
    snapshots.check_unheld(guest, {move.key: volume})
