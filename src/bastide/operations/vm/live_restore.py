"""A VM that runs while it is restored, from a backup whose disks can be read at any place.

Each drive is started on a file of its own that holds what the guest writes, above the backup's. QEMU mirrors it to the
new volume, and the guest is switched to that one when it holds everything. Until then the record is locked (`create`):
a failure, or the daemon's death, ends the VM. The one that was in its place, if any, is kept in the store
(`restore/VMID`) and comes back.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bastide.base.errors import BastideError, HostFailure, NotFound, NotSupported, WrongState
from bastide.base.ids import VolumeId
from bastide.guest.vm_protocol import PlannedDisk
from bastide.host import qemu_img
from bastide.model.guest import Guest, GuestState
from bastide.model.storage import DiskImage
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive
from bastide.operations.backup.restoring import change_over
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power
from bastide.operations.vm.move import in_step, token
from bastide.operations.vm.plan import planned_disk, vm_plan
from bastide.operations.vm.restore_data import Restoring, allocate, copy_disk, sized
from bastide.operations.vm.restore_plan import Plan, RestoredDisk
from bastide.operations.volumes import delete_volumes, volumes_of

_PREFIX = "restore/"
_ENDING = 2.0
_log = logging.getLogger(__name__)


def check(plan: Plan) -> None:
    """Raise NotSupported for what cannot run while it is restored."""
    if plan.template:
        raise NotSupported("live-restore is not possible for a template, which never runs")


async def run(rooms: Rooms, guest: Guest, work: Restoring) -> VmConfig:
    """Start a new VM, whose record is locked, and restore its disks meanwhile; the options with their sizes.

    Raises HostFailure when the VM ends before, NoSpace; the caller undoes what is there then.
    """
    async with work.archive.disks() as files:
        for disk in work.plan.disks:
            await (allocate(rooms, work, disk) if _is_drive(disk) else copy_disk(rooms, work, disk, _file(files, disk)))
        config = await sized(rooms, work.plan)
        guest = await rooms.guests.update(guest.with_config({**config.to_text(), "lock": "create"}))
        async with _overlays(rooms, guest, work, files) as instead, AsyncExitStack() as undo:
            # It reads the backup until all is copied.
            undo.push_async_callback(_end, rooms, guest.vmid)
            await power.start_locked(rooms, guest, work.task, instead=instead)
            work.task.log(f"{guest.title} runs; its disks are restored meanwhile")
            try:
                for disk in work.plan.disks:
                    if disk.key in instead:
                        await _move_over(rooms, guest, work, disk)
            except BastideError as error:
                if not await _ended(rooms, guest.vmid):
                    raise
                words = f"{guest.title} ended before it was restored, and what it had written is gone: restore it again"
                raise WrongState(words) from error
            undo.pop_all()
        return config


async def _ended(rooms: Rooms, vmid: int) -> bool:
    """Whether the VM has ended; its monitor is gone a little earlier."""
    try:
        async with asyncio.timeout(_ENDING):
            await rooms.vms.wait_stopped(vmid)
    except TimeoutError:
        return False
    return True


async def run_over(rooms: Rooms, present: Guest, work: Restoring, kept: Collection[VolumeId]) -> Guest:
    """The same in the place of a VM that is there, which comes back when it fails."""
    vmid = present.vmid
    async with AsyncExitStack() as undo:
        await rooms.store.put(f"{_PREFIX}{vmid}", present.to_json())
        undo.push_async_callback(_put_back, rooms, present)
        started = replace(present, pending={}, removed=(), snapshots={})
        locked = {**work.plan.config.to_text(), "lock": "create"}
        config = await run(rooms, await rooms.guests.update(started.with_config(locked)), work)
        texts = keep_unused(map(str, kept), config.to_text(), vmid)
        guest = await change_over(rooms, await rooms.guests.get(vmid), texts, first_id=present.first_id)
        undo.pop_all()
    await rooms.store.delete(f"{_PREFIX}{vmid}")
    return guest


async def put_back(rooms: Rooms) -> list[Guest]:
    """After the death of a daemon: end the VMs that were being restored in the place of others, which come back.

    Returns those that could not: their volumes are still theirs, and the next daemon tries again.
    """
    left: list[Guest] = []
    for entry in await rooms.store.list(_PREFIX):
        vmid = int(entry.key.removeprefix(_PREFIX))
        try:
            guest = await rooms.guests.get(vmid)
            if guest.config.get("lock") == "create":
                _log.warning("VM %d was half restored: the one that was there comes back", vmid)
                left.append(before := Guest.from_json(vmid, entry.value, guest.revision))
                await _put_back(rooms, before)
                left.remove(before)
                new = [volid for volid in volumes_of(guest) if volid not in volumes_of(before)]
                for problem in await delete_volumes(rooms, new):
                    _log.error("%s", problem)
            else:
                await rooms.store.delete(entry.key)
        except NotFound:
            await rooms.store.delete(entry.key)
        except BastideError as error:
            _log.error("the VM %d that was there before its restore is not back: %s", vmid, error)
    await asyncio.to_thread(shutil.rmtree, _folder(rooms), ignore_errors=True)
    return left


async def _put_back(rooms: Rooms, before: Guest) -> None:
    await _end(rooms, before.vmid)
    present = await rooms.guests.get(before.vmid)
    await rooms.guests.update(replace(before, revision=present.revision))
    await rooms.store.delete(f"{_PREFIX}{before.vmid}")


async def _end(rooms: Rooms, vmid: int) -> None:
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        await rooms.vms.stop(vmid)
    await rooms.vms.cleanup(vmid)


@contextlib.asynccontextmanager
async def _overlays(
    rooms: Rooms, guest: Guest, work: Restoring, files: Mapping[str, Path]
) -> AsyncIterator[dict[str, PlannedDisk]]:
    """While entered, the images that the VM begins with: what it writes above what the backup's files show."""
    folder = _folder(rooms) / str(guest.vmid)
    options = dict(VmConfig.parse(guest.config).drives())
    try:
        await asyncio.to_thread(folder.mkdir, 0o700, parents=True, exist_ok=True)
        found = {}
        for disk in work.plan.disks:
            if _is_drive(disk):
                path, below = folder / f"{disk.key}.qcow2", _file(files, disk)
                await qemu_img.create_overlay(path, str(below), "raw", disk.saved.size)
                backing = DiskImage(below, "raw")
                drive = _cached(options[disk.key])
                found[disk.key] = PlannedDisk(disk.key, drive, path, "qcow2", disk.saved.size, backing=backing)
        yield found
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _cached(drive: Drive) -> Drive:
    """A drive's options for files that may not be read past the cache; the guest sees no difference."""
    cache = (
        "writethrough" if drive.cache == "directsync" else "writeback" if drive.cache in (None, "none") else drive.cache
    )
    return drive.model_copy(update={"cache": cache, "aio": None})


async def _move_over(rooms: Rooms, guest: Guest, work: Restoring, disk: RestoredDisk) -> None:
    """Copy what a drive holds to its volume, and let the guest use that."""
    config = VmConfig.parse(guest.config)
    target = await planned_disk(rooms, disk.key, dict(config.volumes())[disk.key], config)
    work.task.log(f"{disk.key}: restoring to '{disk.volid}'")
    speed = await work.rate(rooms)
    await rooms.vms.mirror(await vm_plan(rooms, guest), disk.key, target, token(disk.volid), speed=speed)
    await in_step(rooms, guest.vmid, disk.key, work.task)
    await rooms.vms.change_over(guest.vmid, disk.key)
    if await rooms.vms.image_token(guest.vmid, disk.key) != token(disk.volid):
        raise HostFailure(f"the VM does not use the new volume of '{disk.key}'")


def _is_drive(disk: RestoredDisk) -> bool:
    return disk.key not in ("efidisk0", "tpmstate0")


def _file(files: Mapping[str, Path], disk: RestoredDisk) -> Path:
    return files[disk.saved.device]


def _folder(rooms: Rooms) -> Path:
    return rooms.layout.state / "live-restore"
