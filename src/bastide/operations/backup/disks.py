"""The disks of VMs' backups as files to look into: the storage's own, or unpacked for the time being."""

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bastide.base.errors import NoSpace, NotSupported
from bastide.base.units import GIB
from bastide.host import disk_files
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.views import View
from bastide.operations.rooms import Rooms

_FOLDER = "backup-views"
_PARTITION = re.compile(r"(?:gpt|msdos)(\d+)", re.ASCII)
_WATCH_INTERVAL = 0.2


@contextlib.asynccontextmanager
async def opened(rooms: Rooms, archive: Archive) -> AsyncIterator[View]:
    """While entered, a view of the archive's disks that nobody closes. Raises HostFailure, NoSpace."""
    view = await rooms.views.get(archive.volid, lambda: _looked_into(rooms, archive))
    view.users += 1
    try:
        yield view
    finally:
        view.users -= 1
        view.used = time.monotonic()


async def tidy(rooms: Rooms) -> None:
    """At the daemon's start: remove the disks that a killed one had unpacked."""
    await asyncio.to_thread(shutil.rmtree, rooms.layout.state / _FOLDER, True)


@contextlib.asynccontextmanager
async def _looked_into(rooms: Rooms, archive: Archive) -> AsyncIterator[View]:
    async with _disks(rooms, archive) as disks:
        with contextlib.ExitStack() as files:
            keys, images = sorted(disks), []
            for key in keys:
                images.append(os.open(disks[key], os.O_RDONLY | os.O_CLOEXEC))
                files.callback(os.close, images[-1])
            found = await disk_files.file_systems(images)
            yield View(images, {shown(system.device, keys): system.device for system in found})


def shown(device: str, keys: list[str]) -> str:
    """The name that a file system has in paths, of GRUB's: `scsi0-part2`, `scsi0`, `lvm-vg-root`, `md-0`."""
    first, *rest = device.split(",")
    number = first.removeprefix("loop")
    disk = keys[int(number)] if first.startswith("loop") and number.isdigit() and int(number) < len(keys) else first
    parts = [_PARTITION.sub(r"part\1", part) for part in rest]
    return "-".join([disk, *parts]).replace("/", "-")


@contextlib.asynccontextmanager
async def _disks(rooms: Rooms, archive: Archive) -> AsyncIterator[Mapping[str, Path]]:
    """The disks as files: the storage's own, or unpacked for the time being."""
    if archive.random_access:
        async with archive.disks() as disks:
            yield disks
        return
    folder = rooms.layout.state / _FOLDER / archive.name.stem
    await asyncio.to_thread(shutil.rmtree, folder, True)
    folder.mkdir(parents=True, mode=0o700)
    try:
        unpacking = asyncio.create_task(_unpack(archive, folder))
        await _while_room(folder, unpacking)
        yield await unpacking
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


async def _while_room(folder: Path, work: asyncio.Task[Mapping[str, Path]]) -> None:
    """Wait for the work, and end it before it fills the file system that the state lies on. Raises NoSpace."""
    while not work.done():
        figures = os.statvfs(folder)
        if figures.f_bavail * figures.f_frsize < min(GIB, figures.f_blocks * figures.f_frsize // 20):
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise NoSpace(f"there is no room in {folder.parent} to unpack this backup's disks and look into them")
        await asyncio.wait({work}, timeout=_WATCH_INTERVAL)


async def _unpack(archive: Archive, folder: Path) -> Mapping[str, Path]:
    raise NotSupported(f"the disks in '{archive.volid}' cannot be looked into ({folder})")
