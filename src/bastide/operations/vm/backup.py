"""Saving a VM: its disks as they are at which moment, and what becomes of the guest meanwhile.

A running VM's disks are held by the engine (`VmBackups`), those of another are served as they lie. What the guest
overwrites goes to fleeces: files without a name, or volumes that the guest's lock names before they are made. Sources:
vzdump(1) on modes, qm(1), qemu-server's format of a backup's configuration.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from bastide.backup.config_text import SavedDrive, config_text
from bastide.base.errors import BastideError, HostFailure, NotFound, NotSupported, WrongState
from bastide.base.units import MIB, format_size
from bastide.guest.vm_protocol import PlannedDisk
from bastide.host import disk_image, filesystems, qemu_nbd
from bastide.host.run import finished
from bastide.model.backup import BackupMode, DiskExport
from bastide.model.guest import Guest, GuestState
from bastide.model.storage import DiskImage
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive
from bastide.operations.backup.saving import Backup
from bastide.operations.backup.stopping import to_be_started, waiting
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power, stillness
from bastide.operations.vm.fleeces import Fleeces
from bastide.operations.vm.plan import planned_disk
from bastide.tasks.tasks import Task

_TPM = "tpmstate0"
_TPM_SIZE, _TPM_LIMIT = 4 * MIB, 64 * MIB
_SECTOR = 512
_LOOK_INTERVAL = 2.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Saving:
    """A VM's backup under way: what is to be saved of it. `undo` lets go of what is held for that."""

    rooms: Rooms
    backup: Backup
    guest: Guest
    disks: Sequence[PlannedDisk]
    undo: AsyncExitStack
    fleeces: Fleeces = field(default_factory=Fleeces)
    exports: Sequence[DiskExport] = ()

    @property
    def task(self) -> Task:
        """Where the log goes."""
        return self.backup.task

    @property
    def vmid(self) -> int:
        """The VM's number."""
        return self.guest.vmid


async def save_vm(rooms: Rooms, backup: Backup) -> None:
    """Save a VM by its backup's mode; of one that does not run, its disks as they are.

    It is in the state afterwards in which it was before. Raises what the sink raises, NoSpace, HostFailure also when
    the state of the disks could not be held to the end, DeadlineExceeded when it does not shut down in time, NotFound
    for a disk that is gone, NotSupported for one whose state cannot be held.
    """
    state, mode = rooms.vms.state(backup.guest.vmid), backup.mode
    if state is GuestState.STOPPED:
        backup.task.log("backup mode: stop")
        await _save_stopped(rooms, backup)
        return
    _check_holdable(backup.guest)
    if state is GuestState.PAUSED:
        backup.task.log("the VM is paused, and stays so: it is saved as it stands")
        mode = "snapshot"
    backup.task.log(f"backup mode: {mode}")
    stories: Mapping[BackupMode, Callable[[Rooms, Backup, AsyncExitStack], Awaitable[_Saving]]] = {
        "snapshot": _snapshotted,
        "suspend": _suspended,
        "stop": _restarted,
    }
    async with AsyncExitStack() as undo:
        await _save_held(await stories[mode](rooms, backup, undo))


async def finish(rooms: Rooms) -> None:
    """After the death of a daemon: let go of the disks whose state it held, and have go on what it had begun to start.

    Guests that stand stopped are started later, by `stopping.finish`. Fleeces go with the locks' other volumes.
    """
    started = await waiting(rooms)
    for vmid in {lock.vmid for lock in await rooms.locks.list()} | started:
        if rooms.vms.state(vmid) is GuestState.STOPPED:
            continue
        try:
            await rooms.vms.end_backup(vmid)
            if vmid in started and rooms.vms.state(vmid) is GuestState.PAUSED:
                await rooms.vms.resume(vmid)
        except BastideError as error:
            _log.error("VM %d is not released from its backup: %s", vmid, error)


async def _save_stopped(rooms: Rooms, backup: Backup) -> None:
    async with AsyncExitStack() as undo:
        saving = await _prepared(rooms, backup, undo)
        exports = []
        for disk in saving.disks:
            image: DiskImage | int = _image(disk)
            if disk.key == _TPM:
                copy = _named_file(saving)
                await asyncio.to_thread(_copy_tpm, disk, copy)
                image = copy
            exports.append(await _served(saving, disk, image))
        await backup.sink.save_disks(exports, _text(saving))


def _check_holdable(guest: Guest) -> None:
    """Raise NotSupported for a drive whose commands QEMU hands on to the host's device: no filter sees its writes."""
    for key, drive in VmConfig.parse(guest.config).drives():
        if getattr(drive, "scsiblock", None) and drive.backup is not False and not drive.is_cdrom:
            raise NotSupported(
                f"{key} is a SCSI device of the host's that the guest commands itself: its state cannot be held while"
                " the VM runs; stop the VM, or leave the disk out by 'backup=0'"
            )


async def _snapshotted(rooms: Rooms, backup: Backup, undo: AsyncExitStack) -> _Saving:
    saving = await _prepared(rooms, backup, undo)
    await _hold(saving)
    return saving


async def _suspended(rooms: Rooms, backup: Backup, undo: AsyncExitStack) -> _Saving:
    """The virtual CPUs stand for as long as the backup takes."""
    saving = await _prepared(rooms, backup, undo)
    await backup.hook("pre-stop")
    began = time.monotonic()
    backup.task.log("suspending guest")
    await undo.enter_async_context(_going_on(saving, began))
    await rooms.vms.pause(saving.vmid)
    await _hold(saving)
    return saving


@contextlib.asynccontextmanager
async def _going_on(saving: _Saving, began: float) -> AsyncIterator[None]:
    """The body may pause the guest, and hooks are told when it goes on."""
    try:
        async with stillness.standing(saving.rooms, saving.guest):
            yield
            await saving.backup.hook("pre-restart")
    finally:
        saving.task.log(f"guest is online again after {time.monotonic() - began:.0f} seconds")
    await saving.backup.hook("post-restart")


async def _restarted(rooms: Rooms, backup: Backup, undo: AsyncExitStack) -> _Saving:
    """Shut it down, and start it again at once: its disks are held as they are before its first instruction."""
    vmid, task = backup.guest.vmid, backup.task
    await backup.hook("pre-stop")
    began = time.monotonic()
    async with to_be_started(rooms, vmid):
        try:
            task.log("stopping the VM")
            await power.shutdown_locked(rooms, backup.guest, task, backup.stopwait)
            await backup.hook("pre-restart")
            # Changes that waited for a stop are in it by now.
            await power.start_locked(rooms, await rooms.guests.get(vmid), task, paused=True)
            saving = await _prepared(rooms, replace(backup, guest=await rooms.guests.get(vmid)), undo)
            await _hold(saving, resume=True)
        finally:
            await finished(_run_again(rooms, vmid, task))
    task.log(f"guest is online again after {time.monotonic() - began:.0f} seconds")
    await backup.hook("post-restart")
    return saving


async def _run_again(rooms: Rooms, vmid: int, task: Task) -> None:
    """Whatever has happened, the guest runs as before. The backup's error is the one to tell, so this only warns."""
    try:
        if rooms.vms.state(vmid) is GuestState.STOPPED:
            await power.start_locked(rooms, await rooms.guests.get(vmid), task)
        elif rooms.vms.state(vmid) is GuestState.PAUSED:
            await rooms.vms.resume(vmid)
    except BastideError as error:
        task.warn(f"VM {vmid} does not run again: {error}")


async def _prepared(rooms: Rooms, backup: Backup, undo: AsyncExitStack) -> _Saving:
    """What is saved: all disks but CD-ROMs and those with `backup=0`. Raises WrongState when there is none."""
    config, disks = VmConfig.parse(backup.guest.config), []
    for key, volume in config.volumes():
        if volume.file == "none" or (isinstance(volume, Drive) and volume.is_cdrom):
            continue
        if isinstance(volume, Drive) and volume.backup is False:
            backup.task.log(f"exclude disk '{key}' '{volume.file}' (backup=no)")
            continue
        disk = await planned_disk(rooms, key, volume, config)
        backup.task.log(f"include disk '{key}' '{volume.file}' {format_size(disk.size)}")
        disks.append(disk)
    if not disks:
        raise WrongState(
            f"{backup.guest.title} has no disk to be saved: all are left out by 'backup=0', or it has none"
        )
    return _Saving(rooms, backup, backup.guest, disks, undo)


def _text(saving: _Saving) -> str:
    """The configuration, with the lines by which Proxmox VE's restore finds each disk in the stream."""
    drives = {}
    for disk in saving.disks:
        storage = disk.options.file.partition(":")[0] if not disk.options.file.startswith("/") else ""
        drives[disk.key] = SavedDrive(f"drive-{disk.key}", storage, disk.format)
    return config_text(saving.guest.config, drives)


def _image(disk: PlannedDisk) -> DiskImage:
    if disk.path is None:
        raise NotFound(f"{disk.key} has no volume")
    return DiskImage(disk.path, disk.format, disk.device, disk.backing)


async def _served(saving: _Saving, disk: PlannedDisk, image: DiskImage | int) -> DiskExport:
    """A disk that no QEMU has open."""
    # EFI variables are as large as their template, whatever they lie on.
    limit = disk.size if disk.key == "efidisk0" and disk.format == "raw" and disk.size else None
    size = await asyncio.to_thread(_size, image) if limit is None else limit
    serving = qemu_nbd.serving(image, folder=saving.rooms.layout.runtime, size=limit)
    return DiskExport(disk.key, await saving.undo.enter_async_context(serving), size)


def _size(image: DiskImage | int) -> int:
    """Bytes of what QEMU shows of it: whole sectors."""
    if isinstance(image, int):
        size = os.fstat(image).st_size
    else:
        with disk_image.opened_chain(image) as files:
            size = disk_image.check_link(files[0], image).virtual_size
    return -(-size // _SECTOR) * _SECTOR


async def _hold(saving: _Saving, *, resume: bool = False) -> None:
    """Have the engine hold the disks as they are now; `saving.undo` lets go of them."""
    rooms, vmid, task = saving.rooms, saving.vmid, saving.task
    # What an earlier backup could not let go of.
    await rooms.vms.end_backup(vmid)
    await saving.fleeces.make(rooms, saving.backup, [disk for disk in saving.disks if disk.key != _TPM], saving.undo)
    tpm = next((disk for disk in saving.disks if disk.key == _TPM), None)
    copy = None if tpm is None else _named_file(saving)
    saving.undo.push_async_callback(_let_go, rooms, vmid)
    stood = 0.0

    @contextlib.asynccontextmanager
    async def still() -> AsyncIterator[None]:
        nonlocal stood
        async with stillness.frozen(rooms, saving.guest, task):
            async with stillness.standing(rooms, saving.guest):
                began = time.monotonic()
                if tpm is not None and copy is not None:
                    # A process beside QEMU writes it, which is quiet while the virtual CPUs stand.
                    if rooms.vms.state(vmid) is GuestState.RUNNING:
                        await rooms.vms.pause(vmid)
                    await asyncio.to_thread(_copy_tpm, tpm, copy)
                yield
            stood = time.monotonic() - began

    ran = rooms.vms.state(vmid) is GuestState.RUNNING
    exports = dict(await rooms.vms.begin_backup(vmid, saving.fleeces.files, resume=resume, still=still))
    if ran:
        task.log(f"guest was frozen for {stood * 1000:.0f} ms")
    if tpm is not None and copy is not None:
        exports[_TPM] = await _served(saving, tpm, copy)
    saving.exports = [exports[disk.key] for disk in saving.disks]


async def _let_go(rooms: Rooms, vmid: int) -> None:
    await finished(rooms.vms.end_backup(vmid))


def _named_file(saving: _Saving) -> int:
    """A file that goes with the backup; without a name it could not be shown in the sandbox."""
    file = tempfile.NamedTemporaryFile(prefix=qemu_nbd.PREFIX, dir=saving.rooms.layout.runtime)  # noqa: SIM115
    return saving.undo.enter_context(file).fileno()


def _copy_tpm(disk: PlannedDisk, target: int) -> None:
    """Copy a TPM's state, which swtpm cuts to what it needs, as the volume that it is in Proxmox VE: 4 MiB."""
    with disk_image.opened_chain(_image(disk)) as (source, *_), filesystems.translated("copy the TPM's state"):
        done = 0
        while part := os.pread(source, MIB, done):
            if done >= _TPM_LIMIT:
                raise HostFailure(f"the TPM's state is larger than {_TPM_LIMIT} bytes")
            os.pwrite(target, part, done)
            done += len(part)
        os.ftruncate(target, max(done, _TPM_SIZE))


async def _save_held(saving: _Saving) -> None:
    """Write what is held, and stop as soon as it is not any more."""
    rooms, vmid = saving.rooms, saving.vmid
    writing = asyncio.ensure_future(saving.backup.sink.save_disks(saving.exports, _text(saving)))
    watching = asyncio.ensure_future(_watch(saving))
    try:
        await asyncio.wait({writing, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        ended = writing.done()
        writing.cancel()
        await asyncio.wait({writing, watching})
    if not watching.cancelled():
        watching.result()
    why = await rooms.vms.backup_failed(vmid)
    if why is not None:
        # What the reader says of it is not the cause.
        raise HostFailure(why) from (writing.exception() if ended else None)
    writing.result()


async def _watch(saving: _Saving) -> None:
    """Raises HostFailure, NoSpace when the disks' state is lost, or would take room that others need."""
    while True:
        await asyncio.sleep(_LOOK_INTERVAL)
        if (why := await saving.rooms.vms.backup_failed(saving.vmid)) is not None:
            raise HostFailure(why)
        await asyncio.to_thread(saving.fleeces.check)
