"""Copies of single volumes, of whatever content."""

from collections.abc import Callable
from typing import cast

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.host import reflink
from bastide.host.filesystems import remove_tree
from bastide.model.access import Identity
from bastide.model.guest import GuestState
from bastide.model.storage import Volume
from bastide.operations.content import FILES
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.volumes import volumes_of
from bastide.storage.protocol import CloneStorage, DiskStorage, FileStorage, Storage
from bastide.tasks.tasks import Task

_STEP = 10.0


async def copy_volume(rooms: Rooms, by: Identity, volid: str, target: str) -> Upid:
    """Copy a volume to a new name, on the same storage or another one, as a task; it appears whole or not at all.

    Raises NotFound, AlreadyExists, InvalidParameter, WrongState while a running guest writes to the volume, and
    NotSupported for containers' file systems on another storage.
    """
    storage, name = await rooms.storages.resolve(volid)
    volume = await storage.info(name)
    other, target_name = await rooms.storages.resolve(target)
    await _refuse_taken(other, target_name, target)
    await _refuse_running(rooms, volid)
    await check_fits(rooms, {"target": Wanted(other.config.storage, volume.size)})
    if volume.content in FILES and target_name.partition("/")[0] != volume.content:
        raise InvalidParameter({"target": f"a copy of '{volid}' is {volume.content}/FILE"})
    if volume.content == "rootdir" and storage is not other:
        raise NotSupported("a container's volume is copied to another storage by a clone of the container")

    async def work(task: Task) -> None:
        await _refuse_running(rooms, volid)
        task.log(f"copying volume '{volid}' to '{target}'")
        await _copy(rooms, (storage, name, volume), (other, target_name), in_steps(task))
        task.log(f"volume '{target}' has been made")

    return await rooms.tasks.start("imgcopy", "", by, work)


async def _copy(
    rooms: Rooms, source: tuple[Storage, str, Volume], target: tuple[Storage, str], progress: Callable[[float], None]
) -> None:
    storage, name, volume = source
    other, target_name = target
    if volume.content in FILES:
        files = await rooms.storages.files(other.config.storage, volume.content)
        incoming = files.incoming(target_name)
        try:
            await reflink.copied(await cast(FileStorage, storage).file_path(name), incoming, progress)
            await files.publish(incoming, target_name)
        finally:
            await remove_tree(incoming)
    elif storage is other and volume.format in storage.capabilities.clones:
        await cast(CloneStorage, storage).copy(name, target_name, None, progress)
    elif volume.content == "images":
        image = await cast(DiskStorage, storage).disk_image(name)
        disks = await rooms.storages.disks(other.config.storage)
        await disks.import_disk(image, image.format, target_name, progress)
    else:
        raise NotSupported(f"storage '{storage.config.storage}' cannot copy volumes of the format '{volume.format}'")


async def _refuse_taken(storage: Storage, name: str, volid: str) -> None:
    try:
        await storage.info(name)
    except NotFound:
        return
    raise AlreadyExists(f"volume '{volid}' already exists")


async def _refuse_running(rooms: Rooms, volid: str) -> None:
    wanted = VolumeId.parse(volid)
    for guest in await rooms.guests.list():
        if wanted in volumes_of(guest) and rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED:
            raise WrongState(f"volume '{volid}' is in use by {guest.title}, which runs: stop it, or clone it")


def in_steps(task: Task) -> Callable[[float], None]:
    """Logs every tenth part of a copy."""
    logged = 0.0

    def tell(percent: float) -> None:
        nonlocal logged
        if percent >= logged + _STEP:
            logged = percent - percent % _STEP
            task.log(f"{logged:3.0f}%")

    return tell
