"""Making a container's volume of another one: a linked clone, a copy inside a storage, or its files one by one."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bastide.base import units
from bastide.base.errors import InvalidParameter
from bastide.base.ids import VolumeId
from bastide.guest.protocol import IdMap
from bastide.host.trees import copy_tree
from bastide.model.guest import Guest
from bastide.model.storage import VolumeFormat, Work
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits, copy_rate
from bastide.operations.volumes import delete_volumes
from bastide.storage.protocol import Capabilities, CloneStorage
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task

_LOG_EVERY = 10
_LOG_BYTES = 256 * units.MIB


@dataclass(frozen=True, slots=True)
class VolumeCopy:
    """A volume to make: `key` says what for, `size` is in bytes (0: no limit).

    `means`: `link` shares with a base, `copy` is the storage's own work, `files` go through two confined processes.
    """

    key: str
    source: VolumeId
    target: VolumeId
    size: int
    means: Literal["link", "copy", "files"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose volumes are copied, and at which snapshot."""

    guest: Guest
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """Whose volumes are made, that guest's lock, and what for.

    `limit` in KiB a second; the storages' own for that `work` hold besides.
    """

    guest: Guest
    held: HeldLock
    task: Task
    work: Work
    limit: float | None = None


async def plan_link(rooms: Rooms, key: str, source: VolumeId, vmid: int, number: int) -> VolumeCopy:
    """A linked clone of a base. Raises InvalidParameter naming `full` when the storage makes none."""
    storage = await rooms.storages.containers(source.storage)
    found = await storage.info(source.name)
    if found.format not in storage.capabilities.clones:
        raise InvalidParameter(
            {"full": f"storage '{source.storage}' makes no linked clones of '{found.format}' volumes"}
        )
    name = cast(CloneStorage, storage).clone_name(source.name, vmid, number, "rootdir")
    return VolumeCopy(key, source, VolumeId(source.storage, name), found.size, "link")


async def plan_copy(
    rooms: Rooms, key: str, source: VolumeId, vmid: int, number: int, *, storage: str | None = None
) -> VolumeCopy:
    """A copy that stands alone, on another `storage` if that is given. Raises NotFound, WrongState, NotSupported."""
    found = await (await rooms.storages.containers(source.storage)).info(source.name)
    target = await rooms.storages.containers(storage or source.storage)
    name = target.volume_name(vmid, number, found.size)
    await check_fits(rooms, {"storage": Wanted(target.config.storage, found.size)})
    inside = target.config.storage == source.storage and _copies(target.capabilities, found.format)
    same = found.format == (target.capabilities.container_format if found.size else "subvol")
    means: Literal["copy", "files"] = "copy" if inside and same else "files"
    return VolumeCopy(key, source, VolumeId(target.config.storage, name), found.size, means)


async def make_copy(rooms: Rooms, copy: VolumeCopy, origin: Origin, making: Making) -> None:
    """Make a planned volume. When this fails it may be half made: the caller deletes it.

    Nobody writes to the source meanwhile. Raises AlreadyExists, NoSpace, HostFailure.
    """
    task = making.task
    await making.held.record(str(copy.target))
    if copy.means == "link":
        await (await _cloning(rooms, copy.source)).clone(copy.source.name, copy.target.name)
        task.log(f"made linked clone '{copy.target}' of '{copy.source}'")
        return
    task.log(f"copying volume '{copy.source}' to '{copy.target}'")
    rate = await copy_rate(rooms, making.work, {copy.source.storage, copy.target.storage}, making.limit)
    if copy.means == "copy":
        storage = await _cloning(rooms, copy.source)
        await storage.copy(copy.source.name, copy.target.name, origin.snapshot, _in_steps(task), rate=rate)
        return
    await (await rooms.storages.containers(copy.target.storage)).allocate(copy.target.name, copy.size)
    async with (
        _readable(rooms, copy, origin, making) as folder,
        _active(rooms, copy.target, making.guest) as target,
    ):
        commands = rooms.containers.copying(folder, _ids(origin.guest), target, _ids(making.guest))
        total = await copy_tree(*commands, limit=rate or None, progress=_in_parts(task))
    task.log(f"copied {units.readable(total)}")


@asynccontextmanager
async def _readable(rooms: Rooms, copy: VolumeCopy, origin: Origin, making: Making) -> AsyncIterator[Path]:
    """The files of the source: of a snapshot or a base, which nobody may write to, by a copy that goes afterwards."""
    if origin.snapshot is None and not origin.guest.is_template:
        async with _active(rooms, copy.source, origin.guest) as folder:
            yield folder
        return
    storage = await rooms.storages.containers(copy.source.storage)
    # Beyond every number that a volume of a container has.
    staged = VolumeId(copy.source.storage, storage.volume_name(making.guest.vmid, 9000, copy.size))
    await making.held.record(str(staged))
    try:
        await (await _cloning(rooms, copy.source)).copy(copy.source.name, staged.name, origin.snapshot)
        async with _active(rooms, staged, origin.guest) as folder:
            yield folder
    finally:
        await delete_volumes(rooms, [staged])


@asynccontextmanager
async def _active(rooms: Rooms, volid: VolumeId, guest: Guest) -> AsyncIterator[Path]:
    storage = await rooms.storages.containers(volid.storage)
    try:
        yield await storage.activate(volid.name, guest.first_id or 0)
    finally:
        await storage.deactivate(volid.name)


def _ids(guest: Guest) -> IdMap:
    return IdMap(guest.first_id or 0)


async def _cloning(rooms: Rooms, volid: VolumeId) -> CloneStorage:
    return cast(CloneStorage, await rooms.storages.containers(volid.storage))


def _copies(capabilities: Capabilities, form: VolumeFormat) -> bool:
    return form in capabilities.clones or form in capabilities.snapshots


def _in_steps(task: Task) -> Callable[[float], None]:
    """Logs a copy's percents, not each of them."""
    told = 0

    def progress(percent: float) -> None:
        nonlocal told
        if percent >= told + _LOG_EVERY:
            told = int(percent)
            task.log(f"copied {told} %")

    return progress


def _in_parts(task: Task) -> Callable[[int], None]:
    """Logs how many bytes of files were copied."""
    told = 0

    def progress(total: int) -> None:
        nonlocal told
        if total >= told + _LOG_BYTES:
            told = total
            task.log(f"copied {units.readable(total)}")

    return progress
