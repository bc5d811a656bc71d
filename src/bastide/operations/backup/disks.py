"""The disks of VMs' backups as files to look into: the storage's own, or unpacked for the time being."""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bastide.backup import vma_stages
from bastide.backup.vma_stages import DiskTarget
from bastide.base.errors import NoSpace
from bastide.host import disk_files, disk_image, qemu_img
from bastide.host.pipeline import run_pipeline
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.views import View
from bastide.operations.rooms import Rooms

_FOLDER = "backup-views"
_PARTITION = re.compile(r"(?:gpt|msdos)(\d+)", re.ASCII)


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
    # Of its own: backups on two storages may have the same name.
    folder = rooms.layout.state / _FOLDER / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield await _unpack(archive, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


async def _unpack(archive: Archive, folder: Path) -> Mapping[str, Path]:
    """Write a stream's disks into sparse files, which takes a whole read. Raises HostFailure, NoSpace."""
    async with archive.stream() as (stage, source):
        header = await vma_stages.read_header(stage, DEVNULL if source is None else source)
    made: dict[str, Path] = {}
    async with contextlib.AsyncExitStack() as stack:
        targets = {}
        for key, size in header.disks.items():
            made[key] = folder / f"{len(made)}.raw"
            await qemu_img.create(made[key], "raw", size)
            targets[key] = DiskTarget(stack.enter_context(disk_image.opened(made[key], os.O_RDWR)), zeroed=True)
        reading, source = await stack.enter_async_context(archive.stream())
        writing = stack.enter_context(vma_stages.unpack_stage(targets))
        try:
            await run_pipeline([reading, writing], stdin=DEVNULL if source is None else source)
        except NoSpace:
            raise NoSpace(
                f"there is no room to unpack the backup's disks in {folder.parent}: restore the VM under another vmid,"
                " or look into backups on a storage whose disks can be read at any place (type borg)"
            ) from None
    return made
