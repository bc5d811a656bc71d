"""From a guest's record to the plan an engine starts: volumes activated, names resolved, ids chosen."""

import asyncio
from pathlib import Path

from bastide.base.errors import InvalidParameter
from bastide.guest.protocol import ContainerPlan, IdMap, Mount
from bastide.host.resolver import host_nameservers, host_searchdomain
from bastide.model.container import ContainerConfig, MountPoint
from bastide.model.guest import Guest
from bastide.model.types import split_list
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import volume_of


async def container_plan(rooms: Rooms, guest: Guest) -> ContainerPlan:
    """Everything the engine needs to start the guest; its volumes are active afterwards.

    Raises InvalidParameter naming the key that cannot be fulfilled.
    """
    config = ContainerConfig.parse(guest.config)
    if config.rootfs is None:
        raise InvalidParameter({"rootfs": f"CT {guest.vmid} has no root file system"})
    rootfs = await activate(rooms, config.rootfs.volume, guest.first_id)
    mounts = [await mount_plan(rooms, guest, index, mount) for index, mount in sorted(config.mp.items())]
    return ContainerPlan(
        vmid=guest.vmid,
        config=config,
        rootfs=rootfs,
        mounts=mounts,
        interfaces={index: rooms.network.host_interface(guest.vmid, index) for index in config.net},
        idmap=IdMap(guest.first_id) if guest.first_id is not None else None,
        nameservers=nameservers(rooms, config),
        searchdomain=config.searchdomain or _domain(rooms, config),
    )


async def mount_plan(rooms: Rooms, guest: Guest, index: int, mount: MountPoint) -> Mount:
    """The plan of one mount point, its volume active. Raises InvalidParameter for a folder that is not there."""
    if volume_of(mount) is not None:
        return Mount(await activate(rooms, mount.volume, guest.first_id), mount, mapped=True)
    source = Path(mount.volume)
    if not source.is_dir():
        raise InvalidParameter({f"mp{index}": f"unable to bind mount: '{source}' is not a folder on this host"})
    return Mount(source, mount, mapped=False)


def nameservers(rooms: Rooms, config: ContainerConfig) -> list[str]:
    """Name servers for the guest: its own setting, the managed bridge's, or the host's."""
    configured = [name for name in split_list(config.nameserver or "") if name != "host"]
    if configured:
        return configured
    for nic in config.net.values():
        bridge = rooms.network.gateway(nic.bridge) if nic.bridge else None
        if bridge is not None:
            return [str(bridge.ipv4.ip)]
    return host_nameservers()


def _domain(rooms: Rooms, config: ContainerConfig) -> str | None:
    """The search domain of a guest without a setting: the managed bridge's, where its neighbours are, or the host's."""
    for nic in config.net.values():
        bridge = rooms.network.gateway(nic.bridge) if nic.bridge else None
        if bridge is not None:
            return bridge.domain
    return host_searchdomain()


async def choose_ids(rooms: Rooms, vmid: int) -> int:
    """The first id of a new container's range; the caller holds `guests.numbering` until it is stored."""
    taken = await rooms.guests.taken_ids()
    return (await asyncio.to_thread(rooms.containers.choose_ids, vmid, taken)).first


async def activate(rooms: Rooms, volume: str, first_id: int | None) -> Path:
    """Activate a container volume by its id and return its folder; `first_id` is its guest's."""
    storage_id, _, name = volume.partition(":")
    storage = await rooms.storages.containers(storage_id)
    return await storage.activate(name, first_id or 0)


async def deactivate(rooms: Rooms, guest: Guest) -> None:
    """Unmount what the guest's volumes needed; those that are not active are fine."""
    config = ContainerConfig.parse(guest.config)
    for mount in [config.rootfs, *config.mp.values()]:
        volid = volume_of(mount) if mount is not None else None
        if volid is not None:
            storage = await rooms.storages.containers(volid.storage)
            await storage.deactivate(volid.name)
