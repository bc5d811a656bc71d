"""The data of a VM's backup on its way into new volumes: as a stream of all disks, or disk by disk from files."""

import asyncio
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bastide.backup import vma_stages
from bastide.backup.vma_stages import DiskTarget
from bastide.base.errors import HostFailure
from bastide.base.units import format_size, readable
from bastide.host import disk_image, qemu_nbd
from bastide.host.pipeline import run_pipeline
from bastide.model.backup import config_file
from bastide.model.vm import VmConfig
from bastide.operations.backup.archives import CONFIG_LIMIT, Archive
from bastide.operations.backup.restoring import Restore
from bastide.operations.rooms import Rooms
from bastide.operations.storages import copy_rate
from bastide.operations.vm.restore_plan import Contents, Plan, RestoredDisk, contents
from bastide.operations.vm.volumes import progress, with_size
from bastide.tasks.tasks import Task

_TELL_EVERY = 10.0
"""Seconds between two lines of the task's log."""


@dataclass(frozen=True, slots=True)
class Restoring:
    """A restore under way: from what, to what, how, and the task that holds the guest's lock."""

    archive: Archive
    plan: Plan
    wish: Restore
    task: Task

    async def rate(self, rooms: Rooms) -> int:
        """Bytes a second that may be written, 0 without a limit."""
        return await copy_rate(rooms, "restore", {disk.volid.storage for disk in self.plan.disks}, self.wish.limit)


async def read_contents(archive: Archive) -> Contents:
    """What is in a VM's backup; of a stream only the beginning is read. Raises HostFailure, InvalidParameter."""
    if archive.random_access:
        async with archive.disks() as files:
            sizes = {key: (await asyncio.to_thread(path.stat)).st_size for key, path in files.items()}
        return contents(await archive.config(), sizes)
    async with archive.stream() as (stage, source):
        header = await vma_stages.read_header(stage, DEVNULL if source is None else source)
    data = header.files.get(config_file("qemu"))
    if data is None or len(data) > CONFIG_LIMIT:
        raise HostFailure("the archive does not contain a guest configuration (qemu-server.conf)")
    try:
        return contents(data.decode(), header.disks)
    except UnicodeDecodeError:
        raise HostFailure("the configuration in the archive is not UTF-8") from None


async def fill(rooms: Rooms, work: Restoring) -> VmConfig:
    """Make the volumes with what the backup holds; the options with their sizes. Raises NoSpace, HostFailure."""
    if work.archive.random_access:
        async with work.archive.disks() as files:
            for disk in work.plan.disks:
                await copy_disk(rooms, work, disk, files[disk.saved.device])
    elif work.plan.disks:
        await _fill_from_stream(rooms, work)
    return await sized(rooms, work.plan)


async def sized(rooms: Rooms, plan: Plan) -> VmConfig:
    """The options with the sizes that the volumes have: devices come in whole extents."""
    config = plan.config
    for disk in plan.disks:
        size = (await (await rooms.storages.get(disk.volid.storage)).info(disk.volid.name)).size
        config = with_size(config, disk.key, size)
    return config


async def allocate(rooms: Rooms, work: Restoring, disk: RestoredDisk) -> None:
    """Make an empty volume for a disk. Raises AlreadyExists, NoSpace."""
    storage = await rooms.storages.disks(disk.volid.storage)
    work.task.log(f"{disk.key}: '{disk.volid}', {format_size(disk.saved.size)}")
    await storage.allocate_disk(disk.volid.name, disk.saved.size)


async def copy_disk(rooms: Rooms, work: Restoring, disk: RestoredDisk, source: Path) -> None:
    """Make a volume with what a file shows. Raises AlreadyExists, NoSpace, HostFailure."""
    storage = await rooms.storages.disks(disk.volid.storage)
    work.task.log(f"{disk.key}: '{disk.volid}', {format_size(disk.saved.size)}")
    rate = await work.rate(rooms)
    await storage.import_disk(source, "raw", disk.volid.name, progress(work.task), ours=True, rate=rate)


async def _fill_from_stream(rooms: Rooms, work: Restoring) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        targets: dict[str, DiskTarget] = {}
        to: Path | int
        for disk in work.plan.disks:
            await allocate(rooms, work, disk)
            storage = await rooms.storages.disks(disk.volid.storage)
            image = await storage.disk_image(disk.volid.name)
            # As a whole: a device is larger than its disk by up to an extent, which may hold what another guest had.
            if image.format == "raw":
                [to] = stack.enter_context(disk_image.opened_chain(image, writable=True))
            else:
                serving = qemu_nbd.serving(image, folder=rooms.layout.runtime, writable=True)
                to = await stack.enter_async_context(serving)
            zeroed = image.format != "raw" or storage.capabilities.thin
            targets[disk.saved.device] = DiskTarget(to, zeroed)
        stage, source = await stack.enter_async_context(work.archive.stream())
        unpacking = stack.enter_context(vma_stages.unpack_stage(targets))
        flow = await run_pipeline(
            [stage, unpacking],
            stdin=DEVNULL if source is None else source,
            limit=await work.rate(rooms) or None,
            progress=_teller(work.task),
        )
    seconds = max(time.monotonic() - began, 0.001)
    work.task.log(f"read {readable(flow.total)} in {seconds:.0f} s ({readable(flow.total / seconds)}/s)")


def _teller(task: Task) -> Callable[[int], None]:
    """Logs now and then how much has been read."""
    began = told = time.monotonic()

    def tell(total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TELL_EVERY:
            told = now
            task.log(f"read {readable(total)} in {now - began:.0f} s")

    return tell
