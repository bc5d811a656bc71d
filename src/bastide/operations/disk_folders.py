"""Folders on the host's own disks: a file system on a disk, mounted now and after every boot, and a storage on it.

Where systemd runs a mount unit mounts it, else the daemon at its start, from a record `disk/NAME` in the store. They
lie below /mnt/pve as Proxmox VE has them; a Bastide below a folder of its own keeps them there and needs no unit.
"""

import json
import logging
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import AlreadyExists, BastideError, NotFound
from bastide.base.ids import Upid
from bastide.base.layout import Layout
from bastide.host import block_devices, disk_labels, filesystems, mount_units
from bastide.host.mount_units import DiskMount
from bastide.model.access import Identity
from bastide.model.storage import StorageConfig
from bastide.operations.disk_storages import add, check_new, check_unused, claim, clean_up
from bastide.operations.disks import empty_device, reserved
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

FileSystem = Literal["ext4", "xfs"]

_BY_UUID = "/dev/disk/by-uuid/"
_PREFIX = "disk/"
_CONTENT = "backup,images,import,iso,rootdir,snippets,vztmpl"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the folders lie, and where their units do (None: they are recorded instead)."""

    mounts: Path
    units: Path | None

    @classmethod
    def of(cls, layout: Layout) -> "Places":
        """The places of a Bastide."""
        if layout.root is not None:
            return cls(layout.state / "mnt", None)
        return cls(Path("/mnt/pve"), mount_units.UNITS if mount_units.systemd_runs() else None)


async def list_folders(rooms: Rooms) -> list[dict[str, Any]]:
    """The folders as Proxmox VE shows them; `unitfile` where a unit mounts it."""
    return [
        {
            "device": mount.what,
            "options": mount.options,
            "path": str(mount.where),
            "type": mount.type,
            **({} if unit is None else {"unitfile": str(unit)}),
        }
        for unit, mount in await _known(rooms)
    ]


async def make_folder(
    rooms: Rooms, by: Identity, name: str, path: str, filesystem: FileSystem = "ext4", *, add_storage: bool = False
) -> Upid:
    """Make a file system on an empty disk and mount it. Raises InvalidParameter, WrongState, AlreadyExists."""
    device = await empty_device(rooms, path)
    await check_new(rooms, name, add_storage=add_storage)
    where = Places.of(rooms.layout).mounts / name
    if any(mount.where == where for _, mount in await _known(rooms)) or filesystems.mount_at(where) is not None:
        raise AlreadyExists(f"a folder of a disk already exists at {where}")

    async def work(task: Task) -> None:
        with reserved(device):
            async with AsyncExitStack() as undo:
                again = await claim(rooms, task, undo, device)
                mount = DiskMount(f"{_BY_UUID}{uuid.uuid4()}", where, filesystem)
                await _format(task, again, mount)
                undo.push_async_callback(_unmount, rooms, mount)
                task.log(f"mount it at {where}")
                await _mount(rooms, name, mount)
                if add_storage:
                    await add(rooms, task, _storage(name, where))
                undo.pop_all()

    return await rooms.tasks.start("dircreate", name, by, work)


async def remove_folder(
    rooms: Rooms, by: Identity, name: str, *, cleanup_config: bool = False, cleanup_disks: bool = False
) -> Upid:
    """Unmount a folder and forget it. Raises NotFound, WrongState while a guest has a volume there."""
    where = Places.of(rooms.layout).mounts / name
    mount = next((mount for _, mount in await _known(rooms) if mount.where == where), None)
    if mount is None:
        raise NotFound(f"directory '{name}' does not exist: no disk is mounted at {where} for it")

    def over(config: StorageConfig) -> bool:
        return config.path is not None and where in (Path(config.path), *Path(config.path).parents)

    await check_unused(rooms, over)

    async def work(task: Task) -> None:
        await check_unused(rooms, over)
        paths = [await _path_of(mount)] if cleanup_disks else []
        task.log(f"unmount {where}")
        await _unmount(rooms, mount)
        await clean_up(rooms, task, over if cleanup_config else None, paths)

    return await rooms.tasks.start("dirremove", name, by, work)


async def mount_recorded(rooms: Rooms) -> None:
    """Mount the recorded folders that are not mounted; called once at the daemon's start, before the storages'."""
    for entry in await rooms.store.list(_PREFIX):
        mount = _read(entry.value)
        try:
            if filesystems.mount_at(mount.where) is None:
                await mount_units.mount_now(mount)
        except BastideError as error:
            _log.error("the disk of %s could not be mounted: %s", mount.where, error)


async def _known(rooms: Rooms) -> list[tuple[Path | None, DiskMount]]:
    places = Places.of(rooms.layout)
    units = mount_units.listed(places.mounts, places.units) if places.units is not None else []
    recorded = [_read(entry.value) for entry in await rooms.store.list(_PREFIX)]
    return [*units, *((None, mount) for mount in recorded)]


async def _format(task: Task, device: block_devices.BlockDevice, mount: DiskMount) -> None:
    target = device.path
    if device.parent is None:
        with disk_labels.held(device):
            await disk_labels.make_gpt(device, part=disk_labels.LINUX)
        target = disk_labels.partition_path(device.path)
    task.log(f"make an {mount.type} file system on {target}")
    await disk_labels.make_filesystem(target, mount.type, mount.what.removeprefix(_BY_UUID))


async def _mount(rooms: Rooms, name: str, mount: DiskMount) -> None:
    units = Places.of(rooms.layout).units
    if units is not None:
        await mount_units.install(mount, units)
        return
    await rooms.store.put(f"{_PREFIX}{name}", _dump(mount))
    await mount_units.mount_now(mount)


async def _unmount(rooms: Rooms, mount: DiskMount) -> None:
    units = Places.of(rooms.layout).units
    if units is not None:
        await mount_units.remove(mount.where, units)
    elif filesystems.mount_at(mount.where) is not None:
        await filesystems.unmount(mount.where)
    await rooms.store.delete(f"{_PREFIX}{mount.where.name}")
    if filesystems.mount_at(mount.where) is None and mount.where.is_dir() and not any(mount.where.iterdir()):
        mount.where.rmdir()


async def _path_of(mount: DiskMount) -> str:
    """The device that a folder's file system is on."""
    for disk in await block_devices.disks(probe=True):
        for device in disk.whole:
            if device.uuid is not None and mount.what == f"{_BY_UUID}{device.uuid}":
                return device.path
    raise NotFound(f"no disk with {mount.what} does exist: plug it in, or leave cleanup-disks out")


def _storage(name: str, where: Path) -> dict[str, Any]:
    return {"storage": name, "type": "dir", "path": str(where), "is_mountpoint": "1", "content": _CONTENT}


def _dump(mount: DiskMount) -> str:
    return json.dumps(
        {"what": mount.what, "where": str(mount.where), "type": mount.type, "options": mount.options}, sort_keys=True
    )


def _read(text: str) -> DiskMount:
    raw = json.loads(text)
    return DiskMount(raw["what"], Path(raw["where"]), raw["type"], raw["options"])
