"""A container comes back from its backup: under a free vmid, or in the place of one that is there."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bastide.backup.config_text import parse_config_text
from bastide.base.errors import BastideError, Conflict, HostFailure, InvalidParameter
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import GIB, readable
from bastide.guest.protocol import IdMap
from bastide.host.filesystems import sync_tree
from bastide.host.pipeline import Stage, run_pipeline
from bastide.model.access import ROOT, Identity
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations import pools
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.restoring import (
    Restore,
    change_over,
    involved_volumes,
    replaced_guest,
    replacing,
)
from bastide.operations.ct import power
from bastide.operations.ct.interfaces import with_hardware_addresses
from bastide.operations.ct.plan import activate, choose_ids, deactivate
from bastide.operations.ct.restore_config import merge
from bastide.operations.ct.template import become_template
from bastide.operations.interfaces import check_interfaces
from bastide.operations.rooms import Rooms
from bastide.operations.storages import copy_rate
from bastide.operations.volumes import NewVolume, allocate_volume, delete_volumes, plan_volumes, volume_of, volumes_of
from bastide.tasks.tasks import Task

_DEFAULT_STORAGE = "local"
_LOG_BYTES = GIB
_LAST_LINES = 20
_LINE = 500
# A file without content takes 512 bytes of a stream, with attributes twice that, and of a file system 256 and a name.
_OVERHEAD = 4
_RATIO = 250
# tar(1): 1 some files differ, 2 errors that were put off to the end.
_TAR_ERRORS = frozenset({0, 1, 2})


@dataclass(frozen=True, slots=True)
class _Plan:
    """A restored container: its configuration, its volumes, and what its user has to know.

    `most` is how many bytes may come out of the archive, `rate` how many a second (0: no limit).
    """

    config: ContainerConfig
    volumes: list[NewVolume]
    warnings: list[str]
    template: bool
    most: int
    rate: int

    @property
    def volids(self) -> list[VolumeId]:
        """What is made."""
        return [volume.volid for volume in self.volumes]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is restored, and as what."""

    archive: Archive
    plan: _Plan
    wish: Restore
    task: Task


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for, and by whom."""

    by: Identity
    vmid: int
    options: ContainerOptions
    wish: Restore


async def restore_container(
    rooms: Rooms, by: Identity, vmid: int, archive: Archive, options: ContainerOptions, *, wish: Restore
) -> Upid:
    """Make a container of a backup as a task; `options` go before the backup's own.

    Volumes are new ones, of the sizes that the backup tells, on `wish.storage` or where `rootfs` and `mp<n>` say
    (`local:8`). What root@pam alone may configure is left out for others, with a warning. With `wish.force` a stopped
    container of that vmid is replaced: it stays as it is until the new volumes are whole. What can be refused is
    refused before the task begins: InvalidParameter, NotFound, AlreadyExists, WrongState, Locked, PermissionDenied,
    HostFailure for an archive that cannot be read. Whatever fails, or a crash, leaves nothing new.
    """
    if archive.name.kind != "lxc":
        raise InvalidParameter({"ostemplate": f"'{archive.volid}' is not a container's backup"})
    if wish.pool is not None:
        await pools.get_pool(rooms, wish.pool)
    before = await replaced_guest(rooms, vmid, "lxc", force=wish.force)
    plan = await _plan(rooms, _Asked(by, vmid, options, wish), archive, before)
    guest = before or await _reserve(rooms, vmid, plan.config)

    async def act(task: Task) -> None:
        work = _Work(archive, plan, wish, task)
        task.log(f"recovered the configuration in '{archive.volid}'")
        for line in plan.warnings:
            task.warn(line)
        volumes = involved_volumes(plan.volids, before)
        async with rooms.locks.hold(vmid, task.upid, "restore", volumes=volumes):
            restored = await (_make(rooms, guest, work) if before is None else _replace(rooms, guest, work))
            await _go_on(rooms, restored, work)

    try:
        return await rooms.tasks.start("vzrestore", str(vmid), by, act)
    except BaseException:
        if before is None:
            await rooms.guests.delete(vmid)
        raise


async def _plan(rooms: Rooms, asked: _Asked, archive: Archive, before: Guest | None) -> _Plan:
    wish, vmid = asked.wish, asked.vmid
    saved = parse_config_text(await archive.config(), "lxc")
    merged = merge(
        saved,
        asked.options,
        storage=wish.storage or _DEFAULT_STORAGE,
        unique=wish.unique,
        restricted=asked.by != ROOT,
        before=before.config if before is not None else None,
    )
    await wish.permit(merged.options)
    warnings = [*merged.warnings, *await _missing_bridges(rooms, merged.options, asked.options)]
    options = with_hardware_addresses(merged.options)
    config, volumes = await plan_volumes(rooms, vmid, options, volumes_of(before) if before is not None else [])
    places = {volume.volid.storage for volume in volumes}
    places |= set() if archive.volid.startswith("/") else {VolumeId.parse(archive.volid).storage}
    rate = await copy_rate(rooms, "restore", places, wish.limit)
    return _Plan(config, volumes, warnings, merged.template, _most(volumes, archive.size), rate)


async def _missing_bridges(rooms: Rooms, options: ContainerOptions, given: ContainerOptions) -> list[str]:
    """What this host lacks of the backup's network, as sentences. Raises InvalidParameter for what the caller asks."""
    await check_interfaces(rooms, given.net)
    try:
        await check_interfaces(rooms, options.net)
    except InvalidParameter as error:
        return [f"{key} of the backup cannot be served here: {why}" for key, why in error.errors.items()]
    return []


def _most(volumes: list[NewVolume], compressed: int) -> int:
    """Bytes that may come out of an archive: in proportion to the volumes, or else to what it takes itself."""
    if all(volume.size for volume in volumes):
        return GIB + _OVERHEAD * sum(volume.size for volume in volumes)
    return max(GIB, _RATIO * compressed)


async def _reserve(rooms: Rooms, vmid: int, config: ContainerConfig) -> Guest:
    """Take the vmid. Raises AlreadyExists."""
    async with rooms.guests.numbering:
        first_id = await choose_ids(rooms, vmid) if config.unprivileged else None
        values = {**config.to_text(), "lock": "create"}
        return await rooms.guests.create(Guest(vmid, "lxc", rooms.node, values, first_id=first_id))


async def _make(rooms: Rooms, guest: Guest, work: _Work) -> Guest:
    """A new container; returns its stored, unlocked record."""
    async with AsyncExitStack() as undo:
        undo.push_async_callback(_discard, rooms, guest, work)
        config = await _fill(rooms, guest, work)
        if work.wish.pool is not None:
            await pools.update_pool(rooms, work.wish.pool, guests=[guest.vmid])
        restored = await rooms.guests.update(guest.with_config(config))
        undo.pop_all()
        return restored


async def _discard(rooms: Rooms, guest: Guest, work: _Work) -> None:
    """The inverse of everything that `_make` makes."""
    for problem in await delete_volumes(rooms, work.plan.volids):
        work.task.warn(problem)
    await pools.forget_guest(rooms, guest.vmid)
    await rooms.guests.delete(guest.vmid)


async def _replace(rooms: Rooms, before: Guest, work: _Work) -> Guest:
    """A container in the place of another one; returns its stored record."""
    vmid = before.vmid
    async with replacing(rooms, work.task, before, work.plan.volids) as present:
        first_id = present.first_id if work.plan.config.unprivileged else None
        if work.plan.config.unprivileged and first_id is None:
            async with rooms.guests.numbering:
                first_id = await choose_ids(rooms, vmid)
        config = await _fill(rooms, replace(present, first_id=first_id), work)
        async with rooms.guests.numbering:
            # They were not stored meanwhile: the guest that is there could not have started with them.
            if any(
                other.vmid != vmid and other.first_id == first_id for other in await rooms.guests.list() if first_id
            ):
                raise Conflict(f"another guest has taken the ids from {first_id} on. Try again.")
            restored = await change_over(rooms, present, config, first_id=first_id)
    await rooms.network.forget(vmid)
    if work.wish.pool is not None:
        await pools.update_pool(rooms, work.wish.pool, guests=[vmid])
    return restored


async def _fill(rooms: Rooms, guest: Guest, work: _Work) -> dict[str, Scalar]:
    """Make the volumes and unpack the archive into them; returns the configuration."""
    config, task = work.plan.config, work.task
    guest = guest.with_config(config.to_text())
    try:
        for volume in work.plan.volumes:
            await allocate_volume(rooms, volume)
            task.log(f"allocated volume '{volume.volid}'")
        tree = await _tree(rooms, guest, config)
        await _unpack(rooms, tree, work)
        ostype, arch = await asyncio.to_thread(rooms.containers.detect, tree.root)
        for folder in [tree.root, *tree.mounts.values()]:
            await asyncio.to_thread(sync_tree, folder)
    finally:
        await deactivate(rooms, guest)
    return {"arch": arch, "ostype": ostype, **config.to_text()}


async def _tree(rooms: Rooms, guest: Guest, config: ContainerConfig) -> Tree:
    """The new volumes by their places. Folders of the host are no part of a backup."""
    assert config.rootfs is not None  # noqa: S101 - `merge` sees to it
    mounts = {
        mount.mp: await activate(rooms, mount.volume, guest.first_id)
        for _, mount in sorted(config.mp.items())
        if volume_of(mount) is not None
    }
    return Tree(await activate(rooms, config.rootfs.volume, guest.first_id), guest.first_id or 0, mounts)


async def _unpack(rooms: Rooms, tree: Tree, work: _Work) -> None:
    task = work.task
    task.log(f"restoring '{work.archive.volid}' now")
    async with (
        work.archive.stream() as (source, stdin),
        rooms.containers.unpacking(tree, IdMap(tree.first_id)) as argv,
    ):
        sink = Stage(argv, "unpacked", fine=_TAR_ERRORS if work.wish.ignore_errors else frozenset({0}))
        flow = await run_pipeline(
            [source, sink],
            stdin=DEVNULL if stdin is None else stdin,
            limit=work.plan.rate or None,
            progress=_watch(work),
        )
    lines = flow.said[-1].strip().splitlines()
    for line in lines[-_LAST_LINES:]:
        task.warn(line.strip()[:_LINE])
    task.log(f"unpacked {readable(flow.total)}")


def _watch(work: _Work) -> Callable[[int], None]:
    """Tells how much has been unpacked, and ends what is more than it may be."""
    told = 0

    def progress(total: int) -> None:
        nonlocal told
        if total > work.plan.most:
            raise HostFailure(
                f"the archive unpacks to more than the {readable(work.plan.most)} it may; "
                "if that is right, give larger volumes (rootfs=STORAGE:GiB)"
            )
        if total >= told + _LOG_BYTES:
            told = total
            work.task.log(f"unpacked {readable(total)} so far")

    return progress


async def _go_on(rooms: Rooms, guest: Guest, work: _Work) -> None:
    """What follows for a container that is whole: a template becomes one again, another one may start."""
    if work.plan.template:
        try:
            await become_template(rooms, guest, work.task)
        except BastideError as error:
            work.task.warn(f"the backup is a template's, and {guest.title} is none: {error}")
    elif work.wish.start:
        await power.start_locked(rooms, guest, work.task)
