"""A VM's memory in a volume: where it lies, how it gets there."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bastide.base.errors import NoSpace
from bastide.base.ids import VolumeId
from bastide.base.units import MIB
from bastide.host import disk_image
from bastide.host.filesystems import translated
from bastide.model.guest import Guest
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.vm.volumes import disks_of

_DEVICES = 500 * MIB
"""What the state of the devices may take, beside twice the memory."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a running VM's memory was kept as: the volume, and the machine type that it belongs to."""

    volid: VolumeId
    machine: str | None


async def memory_volume(rooms: Rooms, guest: Guest, label: str, storage_id: str | None = None) -> VolumeId:
    """A name for the VM's memory: on the storage, its `vmstatestorage`, its first disk's storage, or `local`.

    Raises InvalidParameter when it cannot fit there.
    """
    disks = await disks_of(rooms, guest.vmid, guest.config)
    where = storage_id or guest.config.get("vmstatestorage") or next((disk.volid.storage for disk in disks), "local")
    storage = await rooms.storages.disks(str(where))
    await check_fits(rooms, {"vmstate": Wanted(str(where), _room_for(guest))})
    return VolumeId(str(where), storage.disk_name(guest.vmid, f"state-{label}", "raw"))


async def make_memory_volume(rooms: Rooms, guest: Guest, volid: VolumeId) -> None:
    """Make room for the memory: twice of it, because what changes while it is written is written again."""
    await (await rooms.storages.disks(volid.storage)).allocate_disk(volid.name, _room_for(guest))


def _room_for(guest: Guest) -> int:
    return 2 * VmConfig.parse(guest.config).memory_bytes + _DEVICES


async def save_memory(
    rooms: Rooms, guest: Guest, volid: VolumeId, at_rest: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Write a running VM's memory to a volume, and let it stand: the caller lets it go on, or ends it.

    `at_rest` is called at the point of the memory: what the disks hold then goes with it.
    """
    image = await (await rooms.storages.disks(volid.storage)).disk_image(volid.name)
    others: list[BaseException] = []

    async def rest() -> None:
        try:
            if at_rest is not None:
                await at_rest()
        except BaseException as error:
            others.append(error)
            raise

    with disk_image.opened_chain(image, writable=True) as (target,):
        try:
            await rooms.vms.save_memory(guest.vmid, target, rest)
        except NoSpace as error:
            if error in others:  # which is about the disks
                raise
            raise NoSpace(f"storage '{volid.storage}': {error}") from error


async def sync(rooms: Rooms, volid: VolumeId) -> None:
    """Bring what was written to a volume to the disk."""
    image = await (await rooms.storages.disks(volid.storage)).disk_image(volid.name)
    with disk_image.opened_chain(image, writable=True) as (target,), translated(f"write '{volid}'"):
        await asyncio.to_thread(os.fsync, target)
