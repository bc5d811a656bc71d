"""Growing a container's volume."""

from bastide.base import units
from bastide.base.errors import Conflict, InvalidParameter
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import volume_of
from bastide.tasks.tasks import Task


async def resize_volume(
    rooms: Rooms, by: Identity, vmid: int, disk: str, size: str, *, digest: str | None = None
) -> Upid:
    """Grow `rootfs` or `mp<n>` to `size` (`16G`) or by it (`+4G`) as a task; the guest may run.

    Raises InvalidParameter for an unknown disk, a bind mount, or a size below the present one.
    """
    guest = await rooms.guests.get(vmid)
    if digest is not None and digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    _target(guest, disk, size)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "resize"):
            guest = await rooms.guests.get(vmid)
            wanted = _target(guest, disk, size)
            config = ContainerConfig.parse(guest.config)
            mount = config.rootfs if disk == "rootfs" else config.mp[int(disk.removeprefix("mp"))]
            volid = volume_of(mount) if mount else None
            if mount is None or volid is None:
                raise InvalidParameter({"disk": f"'{disk}' is not a volume"})
            storage = await rooms.storages.containers(volid.storage)
            if rooms.containers.state(vmid) is GuestState.STOPPED:
                # Not every kernel grows a file system that is mounted.
                await storage.deactivate(volid.name)
            await storage.resize(volid.name, wanted)
            changed = mount.model_copy(update={"size": units.format_size(wanted)})
            await rooms.guests.update(guest.with_config({**guest.config, disk: str(changed)}))
            task.log(f"{disk} has {units.format_size(wanted)} now")

    return await rooms.tasks.start("resize", str(vmid), by, work)


def _target(guest: Guest, disk: str, size: str) -> int:
    """The new size in bytes."""
    config = ContainerConfig.parse(guest.config)
    mount = config.rootfs if disk == "rootfs" else config.mp.get(int(disk.removeprefix("mp")))
    if mount is None or volume_of(mount) is None:
        raise InvalidParameter({"disk": f"CT {guest.vmid} has no volume '{disk}'"})
    present = units.parse_size(mount.size) if mount.size else 0
    try:
        wanted = units.parse_size(size.removeprefix("+"))
    except ValueError as error:
        raise InvalidParameter({"size": str(error)}) from None
    if size.startswith("+"):
        wanted += present
    if wanted <= present:
        raise InvalidParameter(
            {"size": f"unable to shrink disk size: '{disk}' has {units.format_size(present)}, asked was {size}"}
        )
    return wanted
