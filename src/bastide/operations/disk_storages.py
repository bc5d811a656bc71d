"""Storages made of the host's own disks, and taken apart again: folders, LVM volume groups, thin pools, ZFS pools.

Each is made of disks with nothing on them (`disks.empty_device`). When the making fails they are wiped again.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from bastide.base.errors import AlreadyExists, NotFound, WrongState
from bastide.base.ids import Upid
from bastide.host import block_devices, disk_labels, volume_groups, zpools
from bastide.host.block_devices import BlockDevice
from bastide.model.access import Identity
from bastide.model.storage import StorageConfig
from bastide.model.types import split_list
from bastide.operations.disks import empty_device, reserved, wipe_now
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

Over = Callable[[StorageConfig], bool]
"""Whether a storage lies on what is taken apart."""


async def make_group(rooms: Rooms, by: Identity, name: str, path: str, *, add_storage: bool) -> Upid:
    """Make an LVM volume group on a disk. Raises InvalidParameter, WrongState, AlreadyExists, NotSupported."""
    device = await empty_device(rooms, path)
    await check_new(rooms, name, add_storage=add_storage)
    await _no_group(name)

    async def work(task: Task) -> None:
        async with AsyncExitStack() as undo:
            await claim(rooms, task, undo, device)
            await _make_group(task, undo, name, device.path)
            if add_storage:
                await add(rooms, task, {"storage": name, "type": "lvm", "vgname": name, "content": "rootdir,images"})
            undo.pop_all()

    return await rooms.tasks.start("lvmcreate", name, by, _reserving(work, device))


async def make_thin_pool(rooms: Rooms, by: Identity, name: str, path: str, *, add_storage: bool) -> Upid:
    """Make a volume group on a disk and a thin pool of the same name that fills it. Raises as `make_group`."""
    device = await empty_device(rooms, path)
    await check_new(rooms, name, add_storage=add_storage)
    await _no_group(name)
    storage = {"storage": name, "type": "lvmthin", "vgname": name, "thinpool": name, "content": "rootdir,images"}

    async def work(task: Task) -> None:
        async with AsyncExitStack() as undo:
            await claim(rooms, task, undo, device)
            await _make_group(task, undo, name, device.path)
            task.log(f"make the thin pool {name}/{name}")
            await volume_groups.make_pool(name, name)
            if add_storage:
                await add(rooms, task, storage)
            undo.pop_all()

    return await rooms.tasks.start("lvmthincreate", name, by, _reserving(work, device))


async def make_zpool(
    rooms: Rooms,
    by: Identity,
    name: str,
    paths: Sequence[str],
    level: zpools.RaidLevel,
    *,
    ashift: int = 12,
    compression: zpools.Compression = "on",
    draid: tuple[int, int] | None = None,
    add_storage: bool = False,
) -> Upid:
    """Make a ZFS pool; `draid` is its (data, spares). Raises as `make_group`."""
    devices = [await empty_device(rooms, path, "devices") for path in dict.fromkeys(paths)]
    await check_new(rooms, name, add_storage=add_storage)
    # The names by which the disks are known wherever they are plugged in.
    names = [next((n for n in one.links if n.startswith("/dev/disk/by-id/")), one.path) for one in devices]
    vdevs = zpools.vdevs(level, names, *(draid or (None, None)))
    if any(pool.name == name for pool in await zpools.pools()):
        raise AlreadyExists(f"pool '{name}' already exists on this node")

    async def work(task: Task) -> None:
        async with AsyncExitStack() as undo:
            for device in devices:
                await claim(rooms, task, undo, device)
            task.log(f"make the pool {name}: {' '.join(vdevs)}")
            await zpools.make(name, vdevs, ashift=ashift, compression=compression)
            undo.push_async_callback(zpools.destroy, name)
            if add_storage:
                await add(rooms, task, {"storage": name, "type": "zfspool", "pool": name, "content": "rootdir,images"})
            undo.pop_all()

    return await rooms.tasks.start("zfscreate", name, by, _reserving(work, *devices))


async def remove_group(
    rooms: Rooms, by: Identity, name: str, *, cleanup_config: bool = False, cleanup_disks: bool = False
) -> Upid:
    """Remove a volume group with all in it. Raises NotFound, WrongState while a guest has a volume there."""
    group = await _group(name)

    def over(config: StorageConfig) -> bool:
        return config.type in ("lvm", "lvmthin") and config.vgname == name

    await check_unused(rooms, over)

    async def work(task: Task) -> None:
        await check_unused(rooms, over)
        task.log(f"remove the volume group {name}")
        await volume_groups.remove_group(group)
        paths = [member.path for member in group.members]
        await clean_up(rooms, task, over if cleanup_config else None, paths if cleanup_disks else [])

    return await rooms.tasks.start("lvmremove", name, by, work)


async def remove_thin_pool(
    rooms: Rooms, by: Identity, name: str, group_name: str, *, cleanup_config: bool = False, cleanup_disks: bool = False
) -> Upid:
    """Remove a thin pool with all in it; with `cleanup_disks` its group, too, in which nothing else may be."""
    if not any((pool.group, pool.name) == (group_name, name) for pool in await volume_groups.thin_pools()):
        raise NotFound(f"thin pool '{group_name}/{name}' does not exist")
    group = await _group(group_name)

    def over(config: StorageConfig) -> bool:
        if config.type == "lvm":  # the group's other storages only matter when it goes, too
            return cleanup_disks and config.vgname == group_name
        return config.type == "lvmthin" and (config.vgname, config.thinpool) == (group_name, name)

    await check_unused(rooms, over)

    async def work(task: Task) -> None:
        await check_unused(rooms, over)
        task.log(f"remove the thin pool {group_name}/{name}")
        await volume_groups.remove_pool(group_name, name)
        paths = []
        if cleanup_disks:
            left = await _group(group_name)
            if left.volumes:
                raise WrongState(f"the volume group {group_name} has other volumes: its disks stay as they are")
            await volume_groups.remove_group(left)
            paths = [member.path for member in group.members]
        await clean_up(rooms, task, over if cleanup_config else None, paths)

    return await rooms.tasks.start("lvmthinremove", f"{group_name}-{name}", by, work)


async def remove_zpool(
    rooms: Rooms, by: Identity, name: str, *, cleanup_config: bool = False, cleanup_disks: bool = False
) -> Upid:
    """Destroy a pool with all in it. Raises NotFound, WrongState while a guest has a volume there."""
    if not any(pool.name == name for pool in await zpools.pools()):
        raise NotFound(f"pool '{name}' does not exist")
    devices = [leaf.name for vdev in (await zpools.status(name)).vdevs for leaf in vdev.leaves]

    def over(config: StorageConfig) -> bool:
        return config.type == "zfspool" and (config.pool or "").split("/")[0] == name

    await check_unused(rooms, over)

    async def work(task: Task) -> None:
        await check_unused(rooms, over)
        task.log(f"destroy the pool {name}")
        await zpools.destroy(name)
        if cleanup_disks:
            for device in devices:
                await zpools.clear_label(device)
        await clean_up(rooms, task, over if cleanup_config else None, devices if cleanup_disks else [])

    return await rooms.tasks.start("zfsremove", name, by, work)


async def check_new(rooms: Rooms, name: str, *, add_storage: bool) -> None:
    """Raise AlreadyExists when a storage of that name is there and one is to be added."""
    if not add_storage:
        return
    try:
        await rooms.storages.get(name)
    except NotFound:
        return
    raise AlreadyExists(f"storage ID '{name}' already exists")


async def check_unused(rooms: Rooms, over: Over) -> None:
    """Raise WrongState when a guest has a volume on one of the storages."""
    prefixes = tuple(f"{s.config.storage}:" for s in await rooms.storages.all() if over(s.config))
    if not prefixes:
        return
    for guest in await rooms.guests.list():
        values = [str(value) for source in (guest.config, guest.pending) for value in source.values()]
        named = next((value for value in values if value.startswith(prefixes)), None)
        if named is not None:
            volume = named.partition(",")[0]
            raise WrongState(f"guest {guest.vmid} has the volume {volume} there: move or remove it first")
    if unreadable := rooms.guests.naming(*(f'"{prefix}' for prefix in prefixes)):
        raise WrongState(f"the record of guest {unreadable[0]} cannot be read, and names the storage")


async def claim(rooms: Rooms, task: Task, undo: AsyncExitStack, device: BlockDevice) -> BlockDevice:
    """Make sure that a reserved device is still empty and nobody else's, and wipe it again if what follows fails."""
    again = await empty_device(rooms, device.path)
    with disk_labels.held(again) as descriptor:
        await disk_labels.wipe(descriptor, again)

    async def release() -> None:
        known = await block_devices.disks(probe=True)
        left, _ = block_devices.find(known, again.path)
        task.log(f"wipe {left.path} again")
        with disk_labels.held(left) as held:
            await disk_labels.wipe(held, left)

    undo.push_async_callback(release)
    return again


async def add(rooms: Rooms, task: Task, values: dict[str, Any]) -> None:
    """Add a storage of this node alone."""
    task.log(f"add the storage {values['storage']}")
    await rooms.storages.add(StorageConfig.parse({**values, "nodes": rooms.node}))


async def clean_up(rooms: Rooms, task: Task, over: Over | None, paths: Sequence[str]) -> None:
    """Forget the storages that `over` chooses, on this node, and wipe devices.

    A disk of which a device is the only partition is wiped whole.
    """
    for storage in await rooms.storages.all() if over is not None else []:
        if over is not None and over(storage.config):
            task.log(f"forget the storage {storage.config.storage}")
            await _forget(rooms, storage.config)
    for path in paths:
        device, disk = block_devices.find(await block_devices.disks(probe=True), path)
        # What ZFS keeps beside the partition that it uses is its own.
        others = [part for part in disk.partitions if part not in (device,) and part.used != "ZFS reserved"]
        with reserved(device):
            await wipe_now(rooms, task, device.path if others else disk.path)


async def _forget(rooms: Rooms, config: StorageConfig) -> None:
    others = [node for node in split_list(config.nodes or "") if node != rooms.node]
    if others:
        await rooms.storages.update(config.storage, {"nodes": ",".join(others)})
    else:
        await rooms.storages.remove(config.storage)


async def _make_group(task: Task, undo: AsyncExitStack, name: str, path: str) -> None:
    task.log(f"make the volume group {name} on {path}")
    await volume_groups.make_group(name, path)
    undo.push_async_callback(_unmake_group, name)


async def _unmake_group(name: str) -> None:
    await volume_groups.remove_group(await _group(name))


async def _no_group(name: str) -> None:
    if any(group.name == name for group in await volume_groups.groups()):
        raise AlreadyExists(f"volume group '{name}' already exists on this node")


async def _group(name: str) -> volume_groups.VolumeGroup:
    found = next((group for group in await volume_groups.groups() if group.name == name), None)
    if found is None:
        raise NotFound(f"volume group '{name}' does not exist")
    return found


def _reserving(work: Callable[[Task], Any], *devices: BlockDevice) -> Callable[[Task], Any]:
    async def run(task: Task) -> None:
        with reserved(*devices):
            await work(task)

    return run
