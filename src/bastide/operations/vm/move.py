"""Moving a VM's disk to another storage or format, or to another VM.

A stopped VM's disk is copied. A running VM's is mirrored, and the guest is switched to the copy. The guest's lock names
the new volume before it is made, and the copy's node in QEMU is named by `token` of it: so the next daemon can ask QEMU
which of the two the guest uses (`finish_moves`), and frees the other.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bastide.base import propstring
from bastide.base.errors import BastideError, Conflict, HostFailure, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.model.storage import DiskFormat
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive
from bastide.operations import snapshots
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits, copy_rate
from bastide.operations.vm.plan import planned_disk, vm_plan
from bastide.operations.vm.volumes import progress, with_size
from bastide.operations.volumes import delete_volumes, free_numbers, owned_volumes, volumes_of
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task

_ACTION = "move"
_INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Move:
    """A disk by its key, and the storage and format, or the VM and the key there, that it goes to.

    What stays as it is is None. With `delete` the old volume goes; else it becomes unused. `limit` in KiB a second.
    """

    key: str
    storage: str | None = None
    form: DiskFormat | None = None
    target_vmid: int | None = None
    target_key: str | None = None
    delete: bool = False
    digest: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    """A move under way: the VM as it was, the volumes, the guests' locks, and whether the old volume goes.

    `rate` in bytes a second, 0 for no limit.
    """

    guest: Guest
    key: str
    old: VolumeId
    new: VolumeId
    held: HeldLock
    task: Task
    delete: bool
    rate: int = 0


async def move_disk(rooms: Rooms, by: Identity, vmid: int, move: Move) -> Upid:
    """Move a disk as a task; for another VM both are stopped, else the VM may run.

    The old volume becomes unused, or goes with `delete` or when another VM takes over. Raises NotFound,
    InvalidParameter, WrongState, Conflict, Locked.
    """
    owner = move.target_vmid or vmid
    await _check(rooms, await rooms.guests.get(vmid, "qemu"), await rooms.guests.get(owner, "qemu"), move)

    async def work(task: Task) -> None:
        async with AsyncExitStack() as locks:
            held = {}
            for each in sorted({vmid, owner}):
                held[each] = await locks.enter_async_context(rooms.locks.hold(each, task.upid, _ACTION))
            guest, target = await rooms.guests.get(vmid, "qemu"), await rooms.guests.get(owner, "qemu")
            old = await _check(rooms, guest, target, replace(move, digest=None))
            new = await _named(rooms, target, old, move)
            rate = await copy_rate(rooms, "move", {old.storage, new.storage}, move.limit)
            part = _Work(guest, move.key, old, new, held[owner], task, move.delete or owner != vmid, rate)
            task.log(f"moving '{old}' to '{new}'")
            if rooms.vms.state(vmid) is GuestState.STOPPED or move.key.startswith("unused"):
                await _move_stopped(rooms, part, target, move.target_key or move.key)
            else:
                await _move_running(rooms, part)

    return await rooms.tasks.start("qmmove", str(vmid), by, work)


async def finish_moves(rooms: Rooms) -> None:
    """After the death of a daemon: the guests of its moves keep the images that they use, and so do their records.

    The volumes that nothing names then are freed with the locks.
    """
    for lock in await rooms.locks.list():
        if lock.action != _ACTION:
            continue
        made = [VolumeId.parse(text) for text in lock.volumes]
        guest = await rooms.guests.get(lock.vmid)
        if rooms.vms.state(lock.vmid) is GuestState.STOPPED:
            await _hand_over(rooms, guest, set(lock.volumes))
            continue
        for key, volume in VmConfig.parse(guest.config).volumes():
            volid = owned_volumes(guest.config, guest.vmid).get(key)
            if volid is not None and key != "tpmstate0" and not getattr(volume, "is_cdrom", False):
                await _settle(rooms, guest.vmid, key, [one for one in made if str(one) != volid], made)


async def _hand_over(rooms: Rooms, owner: Guest, volumes: set[str]) -> None:
    """A disk that another VM takes over is named by both for a moment: from then on it is that one's."""
    if volumes.isdisjoint(owned_volumes(owner.config, owner.vmid).values()):
        return
    for guest in await rooms.guests.list():
        given = [key for key, volid in owned_volumes(guest.config, guest.vmid).items() if volid in volumes]
        if given and guest.vmid != owner.vmid:
            rest = {key: value for key, value in guest.config.items() if key not in given}
            await rooms.guests.update(guest.with_config(rest))


def token(volid: VolumeId) -> str:
    """What names the node of a copy in QEMU: 12 letters and digits that tell volumes apart."""
    return hashlib.sha256(str(volid).encode()).hexdigest()[:12]


async def _check(rooms: Rooms, guest: Guest, target: Guest, move: Move) -> VolumeId:
    """The volume that is moved. Raises what is said of `move_disk`."""
    if move.digest is not None and move.digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    if move.storage is None and move.target_vmid is None and move.form is None:
        raise InvalidParameter({"storage": "say where to: a storage, a format or another VM"})
    for each in (guest, target):
        snapshots.check_unlocked(each)
        if each.is_template:
            raise WrongState(f"{each.title} is a template: its disks stay where they are")
    volume = dict(VmConfig.parse(guest.config).volumes()).get(move.key)
    if isinstance(volume, Drive) and volume.is_cdrom:
        raise InvalidParameter({"disk": f"'{move.key}' is a CD-ROM drive"})
    if volume is not None and volume.file.startswith("/"):
        raise InvalidParameter({"disk": f"'{move.key}' is a device of the host's"})
    owned = owned_volumes(guest.config, guest.vmid).get(move.key)
    if owned is None:
        raise InvalidParameter({"disk": f"VM {guest.vmid} has no disk '{move.key[:40]}'"})
    _check_states(rooms, guest, target, move)
    if move.delete or target.vmid != guest.vmid:
        snapshots.check_unheld(guest, {move.key: owned})
    return VolumeId.parse(owned)


def _check_states(rooms: Rooms, guest: Guest, target: Guest, move: Move) -> None:
    if target.vmid != guest.vmid:
        for each in (guest, target):
            if rooms.vms.state(each.vmid) is not GuestState.STOPPED:
                raise WrongState(f"VM {each.vmid} is running: stop it to move its disk")
        key = move.target_key or move.key
        if key in target.wanted_config or not VmConfig.knows(key):
            raise InvalidParameter({"target-disk": f"VM {target.vmid} cannot take a disk as '{key}'"})
    elif rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        if move.key == "tpmstate0":
            raise WrongState(f"VM {guest.vmid} is running: stop it to move its TPM's state")
        if move.key in guest.pending or move.key in guest.removed:
            raise WrongState(f"'{move.key}' has changes that wait for the next start of VM {guest.vmid}")


async def _named(rooms: Rooms, owner: Guest, old: VolumeId, move: Move) -> VolumeId:
    """The new volume's name. Raises InvalidParameter when its storage has no such disks, or no room."""
    found = await (await rooms.storages.get(old.storage)).info(old.name)
    place = move.storage or old.storage
    storage = await rooms.storages.disks(place)
    known = storage.capabilities.disk_formats
    form: DiskFormat | None = move.form
    if form is None:
        form = next((one for one in known if one == found.format), storage.capabilities.default_disk_format)
    if form not in known:
        raise InvalidParameter({"format": f"storage '{place}' has no disks of the format '{form}'"})
    if move.key in ("efidisk0", "tpmstate0") and form != "raw" and move.form is not None:
        raise InvalidParameter({"format": f"'{move.key}' is always raw"})
    await check_fits(rooms, {"storage": Wanted(place, found.size)})
    numbers = await free_numbers(rooms, owner.vmid, {place}, volumes_of(owner))
    return VolumeId(place, storage.disk_name(owner.vmid, next(numbers), form))


async def _move_stopped(rooms: Rooms, work: _Work, owner: Guest, key: str) -> None:
    guest, task = work.guest, work.task
    async with AsyncExitStack() as undo:
        await _journal(work)
        undo.push_async_callback(_discard, rooms, work.new, task)
        image = await (await rooms.storages.disks(work.old.storage)).disk_image(work.old.name)
        storage = await rooms.storages.disks(work.new.storage)
        await storage.import_disk(image, image.format, work.new.name, progress(task), ours=True, rate=work.rate)
        if not work.key.startswith("unused"):
            # Devices come in whole extents.
            size = (await storage.info(work.new.name)).size
            config = with_size(VmConfig.parse(guest.config), work.key, size).to_text()
            guest = guest.with_config({**guest.config, work.key: config[work.key]})
        text = _text(guest, work.key, key, work.new)
        if owner.vmid != guest.vmid:
            # Between the two the disk is there twice, and nothing is lost.
            await rooms.guests.update(owner.with_config({**owner.config, key: text}))
            undo.pop_all()
            rest = {name: value for name, value in guest.config.items() if name != work.key}
            await rooms.guests.update(guest.with_config(rest))
        else:
            await _record(rooms, guest, work.key, work.new, unused=[] if work.delete else [work.old])
            undo.pop_all()
    await _drop_old(rooms, work)


async def _move_running(rooms: Rooms, work: _Work) -> None:
    vmid = work.guest.vmid
    await _journal(work)
    try:
        await _mirror(rooms, work)
        await rooms.vms.change_over(vmid, work.key)
    except BaseException as error:
        copied = asyncio.shield(_settle(rooms, vmid, work.key, [work.new], [work.old] if work.delete else []))
        if not await copied:
            await asyncio.shield(_discard_unused(rooms, vmid, work.new, work.task))
            raise
        work.task.warn(f"the guest uses the copy, although this came after: {error or 'the task was stopped'}")
    else:
        await _record(rooms, work.guest, work.key, work.new, unused=[] if work.delete else [work.old])
    work.task.log(f"{work.key} is '{work.new}' now")
    await _drop_old(rooms, work)


async def _mirror(rooms: Rooms, work: _Work) -> None:
    """Copy until the copy is in step."""
    guest, key = work.guest, work.key
    size = (await (await rooms.storages.get(work.old.storage)).info(work.old.name)).size
    await (await rooms.storages.disks(work.new.storage)).allocate_disk(work.new.name, size)
    plan = await vm_plan(rooms, guest)
    config = VmConfig.parse(guest.config)
    drive = dict(config.volumes())[key]
    target = await planned_disk(rooms, key, drive.model_copy(update={"file": str(work.new)}), config)
    await rooms.vms.mirror(plan, key, target, token(work.new), speed=work.rate)
    await in_step(rooms, guest.vmid, key, work.task)


async def in_step(rooms: Rooms, vmid: int, key: str, task: Task) -> None:
    """Wait until the copy of a running VM's drive is in step. Raises HostFailure when the copying ends before."""
    tell: Callable[[float], None] = progress(task)
    while True:
        mirror = await rooms.vms.mirror_progress(vmid, key)
        if mirror is None:
            raise HostFailure(f"the copying of '{key}' ended before it was in step")
        tell(100 * mirror.done / mirror.total if mirror.total else 100)
        if mirror.ready:
            return
        await asyncio.sleep(_INTERVAL)


async def _settle(rooms: Rooms, vmid: int, key: str, copies: list[VolumeId], doomed: list[VolumeId]) -> bool:
    """End the copying of a drive, and record which image the guest uses; whether it is one of the `copies`.

    When QEMU does not say, the copies are kept as unused: one of them may be all that the guest has. An old image that
    is not `doomed` becomes unused.
    """
    if rooms.vms.state(vmid) is GuestState.STOPPED:
        return False
    guest = await rooms.guests.get(vmid)
    old = VolumeId.parse(owned_volumes(guest.config, vmid)[key])
    try:
        await rooms.vms.cancel_mirror(vmid, key)
        used = await rooms.vms.image_token(vmid, key)
    except WrongState:
        return False  # it has ended meanwhile, or has no such drive plugged
    except BastideError:
        await rooms.guests.update(guest.with_config(keep_unused([str(one) for one in copies], guest.config, vmid)))
        return False
    found = next((one for one in copies if token(one) == used), None)
    if found is None:
        return False
    await _record(rooms, guest, key, found, unused=[old] if old not in doomed else [])
    return True


async def _journal(work: _Work) -> None:
    await work.held.record(str(work.new))
    if work.delete:
        # In use until the record names the new one; freed when nobody gets to remove it.
        await work.held.record(str(work.old))


async def _record(rooms: Rooms, guest: Guest, key: str, new: VolumeId, *, unused: list[VolumeId]) -> None:
    config = {**guest.config, key: _text(guest, key, key, new)}
    await rooms.guests.update(guest.with_config(keep_unused(map(str, unused), config, guest.vmid)))


def _text(guest: Guest, key: str, target_key: str, new: VolumeId) -> Scalar:
    """The option that names the new volume; an unused volume has no options."""
    if target_key.startswith("unused"):
        return str(new)
    parts = propstring.parse(str(guest.config[key]), "file")
    text = propstring.render({**parts, "file": str(new)}, "file")
    return VmConfig.parse({target_key: text}).to_text()[target_key]


async def _drop_old(rooms: Rooms, work: _Work) -> None:
    """Remove the old volume if it is to go; one that cannot be removed is listed as unused."""
    if not work.delete:
        return
    for problem in await delete_volumes(rooms, [work.old]):
        work.task.warn(problem)
        guest = await rooms.guests.get(work.guest.vmid)
        await rooms.guests.update(guest.with_config(keep_unused([str(work.old)], guest.config, guest.vmid)))


async def _discard(rooms: Rooms, volid: VolumeId, task: Task) -> None:
    for problem in await delete_volumes(rooms, [volid]):
        task.warn(problem)


async def _discard_unused(rooms: Rooms, vmid: int, volid: VolumeId, task: Task) -> None:
    """Remove a copy, unless it had to be kept."""
    if str(volid) not in owned_volumes((await rooms.guests.get(vmid)).config, vmid).values():
        await _discard(rooms, volid, task)
