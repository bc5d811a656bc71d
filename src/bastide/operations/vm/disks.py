"""Growing, detaching and moving a VM's disks."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from bastide.base import units
from bastide.base.errors import Conflict, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_disks import Drive
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.vm.configure import update_config
from bastide.operations.vm.volumes import make_disk, plan_disks, with_size
from bastide.operations.volumes import delete_volumes, volumes_of
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task


async def resize_disk(
    rooms: Rooms, by: Identity, vmid: int, disk: str, size: str, *, digest: str | None = None
) -> Upid:
    """Grow a disk to `size` (`16G`) or by it (`+4G`) as a task; the guest may run.

    Raises InvalidParameter for an unknown disk, a CD-ROM, a device of the host's, or a size below the present one.
    """
    guest = await rooms.guests.get(vmid, "qemu")
    if digest is not None and digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    await _target(rooms, guest, disk, size)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "resize"):
            guest = await rooms.guests.get(vmid)
            volid, wanted = await _target(rooms, guest, disk, size)
            if rooms.vms.state(vmid) is GuestState.STOPPED:
                await (await rooms.storages.disks(volid.storage)).resize_disk(volid.name, wanted)
            else:
                await rooms.vms.resize_disk(vmid, disk, wanted)
            config = with_size(VmConfig.parse(guest.config), disk, wanted)
            await rooms.guests.update(guest.with_config({**guest.config, disk: config.to_text()[disk]}))
            task.log(f"{disk} has {units.format_size(wanted)} now")

    return await rooms.tasks.start("resize", str(vmid), by, work)


async def unlink(rooms: Rooms, by: Identity, vmid: int, keys: Iterable[str], *, force: bool = False) -> None:
    """Detach disks, which become unused; remove unused ones, and with `force` the volumes of all. See update_config."""
    await update_config(rooms, by, vmid, VmOptions(), delete=keys, force=force)


def drive_of(guest: Guest, key: str) -> Drive:
    """A disk of the VM. Raises InvalidParameter naming `disk` when there is none, or it is a CD-ROM."""
    drive = dict(VmConfig.parse(guest.config).drives()).get(key)
    if drive is None:
        raise InvalidParameter({"disk": f"VM {guest.vmid} has no disk '{key[:40]}'"})
    if drive.is_cdrom:
        raise InvalidParameter({"disk": f"'{key}' is a CD-ROM drive"})
    return drive


async def _target(rooms: Rooms, guest: Guest, disk: str, size: str) -> tuple[VolumeId, int]:
    """The volume and its new size in bytes."""
    drive = drive_of(guest, disk)
    if drive.file.startswith("/"):
        raise InvalidParameter({"disk": f"'{disk}' is a device of the host's"})
    volid = VolumeId.parse(drive.file)
    present = (await (await rooms.storages.get(volid.storage)).info(volid.name)).size
    try:
        wanted = units.parse_size(size.removeprefix("+"))
    except ValueError as error:
        raise InvalidParameter({"size": str(error)}) from None
    if size.startswith("+"):
        wanted += present
    if wanted < present:
        raise InvalidParameter(
            {"size": f"unable to shrink disk size: '{disk}' has {units.format_size(present)}, asked was {size}"}
        )
    if wanted % 512:
        raise InvalidParameter({"size": "a disk's size is a multiple of 512 bytes"})
    return volid, wanted


async def move_disk(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    disk: str,
    *,
    storage: str | None = None,
    target_vmid: int | None = None,
    target_disk: str | None = None,
    form: str | None = None,
    delete: bool = False,
    digest: str | None = None,
) -> Upid:
    """Move a stopped VM's disk to another storage or format, or give it to another VM, as a task.

    The old volume becomes unused, or goes with `delete` or when another VM takes over. Raises InvalidParameter,
    WrongState while a guest runs, Conflict.
    """
    guest = await rooms.guests.get(vmid, "qemu")
    if digest is not None and digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    move = _Move(vmid, disk, storage, target_vmid, target_disk or disk, form, delete)
    await _check_move(rooms, guest, move)

    async def work(task: Task) -> None:
        async with AsyncExitStack() as locks:
            for each in sorted({vmid, move.owner}):
                held = await locks.enter_async_context(rooms.locks.hold(each, task.upid, "move"))
                if each == move.owner:
                    journal = held
            guest = await rooms.guests.get(vmid)
            await _check_move(rooms, guest, move)
            await _move(rooms, guest, move, journal, task)

    return await rooms.tasks.start("qmmove", str(vmid), by, work)


@dataclass(frozen=True, slots=True)
class _Move:
    """A disk on its way: whose it is, under which key, and where to. What stays as it is is None."""

    vmid: int
    key: str
    storage: str | None
    target_vmid: int | None
    target_key: str
    form: str | None
    delete: bool

    @property
    def owner(self) -> int:
        return self.target_vmid or self.vmid


async def _check_move(rooms: Rooms, guest: Guest, move: _Move) -> None:
    drive = drive_of(guest, move.key)
    if drive.file.startswith("/"):
        raise InvalidParameter({"disk": f"'{move.key}' is a device of the host's"})
    if move.storage is None and move.target_vmid is None and move.form is None:
        raise InvalidParameter({"storage": "say where to: a storage, a format or another VM"})
    for vmid in {move.vmid, move.owner}:
        if rooms.vms.state(vmid) is not GuestState.STOPPED:
            raise WrongState(f"VM {vmid} is running: stop it to move its disk")
    if move.owner != move.vmid:
        target = await rooms.guests.get(move.owner, "qemu")
        if move.target_key in target.wanted_config or not VmConfig.knows(move.target_key):
            raise InvalidParameter({"target-disk": f"VM {move.owner} cannot take a disk as '{move.target_key}'"})


async def _move(rooms: Rooms, guest: Guest, move: _Move, held: HeldLock, task: Task) -> None:
    drive = drive_of(guest, move.key)
    old = VolumeId.parse(drive.file)
    owner = await rooms.guests.get(move.owner, "qemu")
    source = await rooms.storages.disks(old.storage)
    found = await source.info(old.name)
    request = f"{move.storage or old.storage}:0"
    asked = drive.model_copy(update={"file": request, "import_from": str(old), "format": move.form or found.format})
    options = VmOptions.parse({move.target_key: str(asked)})
    config, disks = await plan_disks(rooms, move.owner, options, volumes_of(owner))
    async with AsyncExitStack() as undo:
        await held.record(str(disks[0].volid))
        undo.push_async_callback(delete_volumes, rooms, [disks[0].volid])
        made = await make_disk(rooms, disks[0], config, task)
        if made is not None:
            config = with_size(config, move.target_key, made.size)
        rest = {key: value for key, value in guest.config.items() if key != move.key}
        if move.owner == move.vmid:
            kept = [] if move.delete else [str(old)]
            await rooms.guests.update(guest.with_config(keep_unused(kept, {**rest, **config.to_text()}, move.vmid)))
        else:
            await rooms.guests.update(owner.with_config({**owner.config, **config.to_text()}))
            await rooms.guests.update(guest.with_config(rest))
        undo.pop_all()
    if move.delete or move.owner != move.vmid:
        for problem in await delete_volumes(rooms, [old]):
            task.warn(problem)
