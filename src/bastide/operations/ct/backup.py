"""Saving a container: which of its volumes, as they are at which moment, and what becomes of it meanwhile.

Sources: vzdump(1) on modes and mount points.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from bastide.backup.config_text import config_text
from bastide.base.errors import BastideError, InvalidParameter
from bastide.base.ids import VolumeId
from bastide.base.units import MIB, readable
from bastide.host import filesystems
from bastide.host.run import finished
from bastide.model.backup import BackupMode, Tree
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import snapshots
from bastide.operations.backup import stopping
from bastide.operations.backup.saving import Backup
from bastide.operations.ct import places, power, staging
from bastide.operations.ct.places import ROOT_PLACE
from bastide.operations.ct.plan import deactivate
from bastide.operations.ct.snapshot import MEANS
from bastide.operations.ct.stillness import still
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import SnapshotStorage
from bastide.tasks.tasks import Task

SNAPSHOT = "vzdump"
"""The snapshot of a container that is being saved, as Proxmox VE calls it."""

_SMALL = 64 * MIB
"""What may be copied while a guest stands still: far less than a second on any disk. A container that shares its
template's files has little of its own, also where snapshots are copies.
"""


async def save_container(rooms: Rooms, backup: Backup) -> None:
    """Save a container by its backup's mode; of one that does not run, simply its files.

    It runs afterwards if it did before. Raises what the sink raises, NoSpace, HostFailure, DeadlineExceeded when it
    does not stop or stand still in time.
    """
    guest, task = backup.guest, backup.task
    _tell(guest, task)
    if rooms.containers.state(guest.vmid) is GuestState.STOPPED:
        task.log("backup mode: stop")
        try:
            await _save(backup, guest, await _tree(rooms, backup, guest))
        finally:
            await finished(deactivate(rooms, guest))
        return
    mode = await _possible(rooms, backup)
    task.log(f"backup mode: {mode}")
    stories: Mapping[BackupMode, Callable[[Rooms, Backup], Awaitable[None]]] = {
        "snapshot": _by_snapshot,
        "suspend": _suspended,
        "stop": _stopped,
    }
    await stories[mode](rooms, backup)


async def _by_snapshot(rooms: Rooms, backup: Backup) -> None:
    guest, task = backup.guest, backup.task
    if SNAPSHOT in guest.snapshots:
        task.log(f"found an old snapshot '{SNAPSHOT}': removing it")
        guest = await snapshots.delete(rooms, guest, SNAPSHOT, MEANS, task)
    live = await _tree(rooms, backup, guest)
    volumes = _volumes(guest)
    async with AsyncExitStack() as undo:
        about = "vzdump backup snapshot"
        undo.push_async_callback(snapshots.discard, rooms, guest.vmid, SNAPSHOT, MEANS, task)
        beginning = snapshots.begin(rooms, guest, SNAPSHOT, about, volumes=volumes.values(), lock="backup")
        guest = await finished(beginning)
        await backup.hook("pre-stop")
        # What is written beforehand need not be while the guest stands still.
        for folder in (live.root, *live.mounts.values()):
            await asyncio.to_thread(filesystems.sync_tree, folder)
        async with _standing(rooms, backup):
            await snapshots.take_volumes(rooms, guest.snapshots[SNAPSHOT])
        await backup.hook("pre-restart")
        await backup.hook("post-restart")
        async with AsyncExitStack() as reading:
            folders = {}
            for place, volid in volumes.items():
                storage = cast(SnapshotStorage, await rooms.storages.containers(volid.storage))
                shown = storage.reading_snapshot(volid.name, SNAPSHOT, guest.first_id or 0)
                folders[place] = await reading.enter_async_context(shown)
            await _save(backup, guest, _joined(guest, folders))


async def _suspended(rooms: Rooms, backup: Backup) -> None:
    guest, task = backup.guest, backup.task
    live = await _tree(rooms, backup, guest)
    async with staging.place(rooms, backup) as target:
        task.log(f"starting first sync to '{target}'")
        began = time.monotonic()
        await staging.follow(rooms, backup, live, target, gently=True)
        task.log(f"first sync finished ({time.monotonic() - began:.1f} seconds)")
        await backup.hook("pre-stop")
        async with _standing(rooms, backup):
            await staging.follow(rooms, backup, live, target, gently=False)
            await backup.hook("pre-restart")
        await backup.hook("post-restart")
        await _save(backup, guest, Tree(target, guest.first_id or 0, copied=True))


async def _stopped(rooms: Rooms, backup: Backup) -> None:
    vmid = backup.guest.vmid
    await backup.hook("pre-stop")
    async with stopping.to_be_started(rooms, vmid):
        began = time.monotonic()
        try:
            backup.task.log("stopping the container")
            await power.shutdown_locked(rooms, backup.guest, backup.task, timeout=backup.stopwait)
            # Changes that waited for a stop are in it by now.
            guest = await rooms.guests.get(vmid)
            await _save(backup, guest, await _tree(rooms, backup, guest))
        finally:
            await finished(_start_again(rooms, backup, began))


async def _start_again(rooms: Rooms, backup: Backup, began: float) -> None:
    """Start a container that was stopped to be saved. The backup is none the worse for it when that fails."""
    vmid, task = backup.guest.vmid, backup.task
    if rooms.containers.state(vmid) is not GuestState.STOPPED:
        return
    try:
        try:
            await backup.hook("pre-restart")
        finally:
            await power.start_locked(rooms, await rooms.guests.get(vmid), task)
            task.log(f"guest is online again after {time.monotonic() - began:.0f} seconds")
        await backup.hook("post-restart")
    except BastideError as error:
        task.warn(f"starting CT {vmid} again: {error}")


@contextlib.asynccontextmanager
async def _standing(rooms: Rooms, backup: Backup) -> AsyncIterator[None]:
    began = time.monotonic()
    async with still(rooms, backup.guest.vmid):
        yield
    backup.task.log(f"the guest stood still for {time.monotonic() - began:.3f} seconds")


async def _save(backup: Backup, guest: Guest, tree: Tree) -> None:
    await backup.sink.save_tree(tree, config_text(guest.config))


async def _possible(rooms: Rooms, backup: Backup) -> BackupMode:
    """The backup's mode, or `suspend` when it shall be of a snapshot that would take its time."""
    if backup.mode != "snapshot":
        return backup.mode
    copied = 0
    for volid in _volumes(backup.guest).values():
        storage = await rooms.storages.containers(volid.storage)
        found = await storage.info(volid.name)
        if found.format in storage.capabilities.instant:
            continue
        if found.format not in storage.capabilities.snapshots or found.used is None or copied + found.used > _SMALL:
            words = f"takes no snapshots of '{found.format}' volumes in an instant ({volid})"
            backup.task.log(f"storage '{volid.storage}' {words}")
            backup.task.log("mode failure - trying 'suspend' mode instead")
            return "suspend"
        copied += found.used
    if copied:
        backup.task.log(f"the snapshot copies {readable(copied)}")
    return "snapshot"


async def _tree(rooms: Rooms, backup: Backup, guest: Guest) -> Tree:
    """What is saved, as it is now, its volumes active."""
    folders = await places.opened(rooms, guest, _volumes(guest))
    for place in await places.behind_links(folders):
        # A restore mounts the volumes before it comes to the link, which then finds its place taken.
        backup.task.warn(
            f"mount point '{place}' is reached by a link in the container: a restore takes 'rootfs=STORAGE:GiB' alone,"
            " which puts all of it into one volume"
        )
    return _joined(guest, folders)


def _joined(guest: Guest, folders: Mapping[str, Path]) -> Tree:
    mounts = {place: folder for place, folder in folders.items() if place != ROOT_PLACE}
    return Tree(folders[ROOT_PLACE], guest.first_id or 0, mounts)


def _volumes(guest: Guest) -> dict[str, VolumeId]:
    """{place in the guest: volume} of what is saved: the root, and mount points with `backup`."""
    mounts = ContainerConfig.parse(guest.config).mp.values()
    saved = {ROOT_PLACE, *(mount.mp for mount in mounts if mount.backup)}
    found = {place: volid for place, volid in places.volumes_by_place(guest).items() if place in saved}
    if ROOT_PLACE not in found:
        raise InvalidParameter({"rootfs": f"CT {guest.vmid} has no root file system of its own"})
    return found


def _tell(guest: Guest, task: Task) -> None:
    """Log what is saved and what is not."""
    owned = snapshots.volumes_in(guest.config, guest.vmid)
    task.log("including mount point rootfs ('/') in backup")
    for index, mount in sorted(ContainerConfig.parse(guest.config).mp.items()):
        what = f"mount point mp{index} ('{mount.mp}')"
        if mount.volume.startswith("/"):
            task.log(f"excluding bind {what} from backup (not a volume)")
        elif f"mp{index}" not in owned:
            task.log(f"excluding volume {what} from backup (not the container's own)")
        elif not mount.backup:
            task.log(f"excluding volume {what} from backup (disabled)")
        else:
            task.log(f"including {what} in backup")
