"""Growing and detaching a VM's disks; `move.py` moves them."""

from collections.abc import Iterable

from bastide.base import units
from bastide.base.errors import Conflict, InvalidParameter
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_disks import Drive
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.vm.configure import update_config
from bastide.operations.vm.volumes import with_size
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
    await check_fits(rooms, {"size": Wanted(volid.storage, wanted, present)})
    return volid, wanted
