"""Giving a container's volume another size."""

from bastide.base import units
from bastide.base.errors import Conflict, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import snapshots
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.volumes import volume_of, with_volume
from bastide.tasks.tasks import Task


async def resize_volume(
    rooms: Rooms, by: Identity, vmid: int, disk: str, size: str, *, digest: str | None = None
) -> Upid:
    """Give `rootfs` or `mp<n>` the `size` (`16G`), or let it grow by it (`+4G`), as a task.

    The guest may run while a volume grows; to shrink one it has to be stopped, and what is in it has to fit: then it
    shrinks whole or not at all. Raises InvalidParameter for an unknown disk, a bind mount or a storage that cannot
    shrink, WrongState for a template or a running guest.
    """
    guest = await rooms.guests.get(vmid, "lxc")
    if digest is not None and digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    await _target(rooms, guest, disk, size)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "resize"):
            guest = await rooms.guests.get(vmid, "lxc")
            volid, wanted = await _target(rooms, guest, disk, size)
            storage = await rooms.storages.containers(volid.storage)
            if rooms.containers.state(vmid) is GuestState.STOPPED:
                # Not every kernel grows a file system that is mounted, and none shrinks one.
                await storage.deactivate(volid.name)
            await storage.resize(volid.name, wanted)
            changed = with_volume(guest.config[disk], volid, wanted)
            await rooms.guests.update(guest.with_config({**guest.config, disk: changed}))
            task.log(f"{disk} has {units.format_size(wanted)} now")

    return await rooms.tasks.start("resize", str(vmid), by, work)


async def _target(rooms: Rooms, guest: Guest, disk: str, size: str) -> tuple[VolumeId, int]:
    """The volume and its new size in bytes."""
    snapshots.check_unlocked(guest)
    if guest.is_template:
        raise WrongState(f"{guest.title} is a template: its volumes keep their sizes")
    config = ContainerConfig.parse(guest.config)
    mount = config.rootfs if disk == "rootfs" else config.mp.get(int(disk.removeprefix("mp")))
    volid = volume_of(mount) if mount is not None else None
    if mount is None or volid is None:
        raise InvalidParameter({"disk": f"CT {guest.vmid} has no volume '{disk}'"})
    present = units.parse_size(mount.size) if mount.size else 0
    try:
        wanted = units.parse_size(size.removeprefix("+"))
    except ValueError as error:
        raise InvalidParameter({"size": str(error)}) from None
    if size.startswith("+"):
        wanted += present
    if wanted in (0, present):
        raise InvalidParameter({"size": f"'{disk}' has {units.format_size(present)}, asked was {size}"})
    if wanted < present:
        await _check_shrink(rooms, guest, disk, volid)
    else:
        await check_fits(rooms, {"size": Wanted(volid.storage, wanted, present)})
    return volid, wanted


async def _check_shrink(rooms: Rooms, guest: Guest, disk: str, volid: VolumeId) -> None:
    if not (await rooms.storages.containers(volid.storage)).capabilities.shrinks:
        why = f"unable to shrink disk size: storage '{volid.storage}' cannot make volumes smaller"
        raise InvalidParameter({"size": why})
    if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
        raise WrongState(f"{guest.title} is running: stop it to shrink '{disk}'")
