"""Volumes of a guest: from `STORAGE:GiB` in a configuration to an allocated volume, and back."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from bastide.base import propstring, units
from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.ids import VolumeId
from bastide.model.container import ContainerConfig, ContainerOptions, MountPoint, RootFs
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.model.storage import Content
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.storage.registry import Storages

_NEW_VOLUME = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):(\d{1,7}(?:\.\d{1,9})?)", re.ASCII)
_VOLUME_KEY = re.compile(r"rootfs|efidisk0|tpmstate0|vmstate|(mp|unused|ide|sata|scsi|virtio)\d+", re.ASCII)
_OWNER = re.compile(r"(?:vm|base|subvol|basevol)-(\d+)-", re.ASCII)
_DISK_NUMBER = re.compile(r"-disk-(\d+)")


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume to allocate: its future id and size in bytes (0: no limit)."""

    volid: VolumeId
    size: int


def parse_request(text: str) -> tuple[str, int] | None:
    """(storage, bytes) of a request such as `local:8` or `local:0.5`; None for anything else."""
    match = _NEW_VOLUME.fullmatch(text)
    if match is None:
        return None
    # In whole KiB, as Proxmox VE makes them: a disk of part of a sector could never grow.
    return match[1], int(float(match[2]) * units.MIB) * units.KIB


def volume_of(mount: RootFs | MountPoint) -> VolumeId | None:
    """The volume a mount names; None for a bind mount."""
    return None if mount.volume.startswith("/") else VolumeId.parse(mount.volume)


def volumes_of(guest: Guest) -> list[VolumeId]:
    """Every volume that belongs to the guest: in use, waiting for the next start, unused, or a snapshot's."""
    found = dict.fromkeys(str(volid) for volid in present_volumes(guest))
    for snapshot in guest.snapshots.values():
        found |= dict.fromkeys([*snapshot.volumes, *([snapshot.vmstate] if snapshot.vmstate else [])])
    return [VolumeId.parse(text) for text in found]


def present_volumes(guest: Guest) -> list[VolumeId]:
    """The volumes that the guest's present configuration names: in use, waiting for the next start, or unused."""
    named = [owned_volumes(source, guest.vmid) for source in (guest.config, guest.pending)]
    return [VolumeId.parse(text) for text in dict.fromkeys([*named[0].values(), *named[1].values()])]


def owned_volumes(config: Mapping[str, Scalar], vmid: int) -> dict[str, str]:
    """{key: volume id} of what a configuration names of the guest's own.

    Bind mounts, files of others (ISO images) and devices of the host are left out.
    """
    found = {}
    for key, value in config.items():
        if _VOLUME_KEY.fullmatch(key):
            parts = propstring.parse(str(value), "file")
            volume = parts.get("file") or parts.get("volume", "")
            owner = _OWNER.match(re.split("[:/]", volume)[-1])
            if not volume.startswith("/") and owner is not None and int(owner[1]) == vmid:
                found[key] = volume
    return found


def with_volume(value: Scalar, volid: VolumeId, size: int | None = None) -> str:
    """A mount of a container's with another volume, and its `size` in bytes where that is given (0: no limit)."""
    parts = propstring.parse(str(value), "volume")
    if size is not None:
        parts.pop("size", None)
        parts |= {"size": units.format_size(size)} if size else {}
    return propstring.render({**parts, "volume": str(volid)}, "volume")


async def plan_volumes(
    rooms: Rooms, vmid: int, options: ContainerOptions, taken: list[VolumeId]
) -> tuple[ContainerConfig, list[NewVolume]]:
    """Give every requested volume of `options` a name that `taken` does not hold.

    Volumes that no guest names any more keep their names. Returns the configuration with volume ids and sizes in place
    of the requests, and what to allocate.
    Raises InvalidParameter naming the key, NotFound for a storage that is not there.
    """
    wanted: dict[str, Wanted] = {}
    new: list[NewVolume] = []
    # What a guest names as unused is deleted with it.
    for index, volume in options.unused.items():
        await _check_existing(rooms, vmid, f"unused{index}", VolumeId.parse(volume.volume))
    values = options.to_text()
    mounts: dict[str, RootFs | MountPoint] = {f"mp{index}": mount for index, mount in options.mp.items()}
    if options.rootfs is not None:
        mounts = {"rootfs": options.rootfs, **mounts}
    asked = {request[0] for mount in mounts.values() if (request := parse_request(mount.volume)) is not None}
    numbers = await free_numbers(rooms, vmid, asked, taken)
    for key, mount in mounts.items():
        request = parse_request(mount.volume)
        if request is None:
            await _check_existing(rooms, vmid, key, volume_of(mount))
            continue
        planned = await _plan(rooms, vmid, next(numbers), request)
        new.append(planned)
        wanted[key] = Wanted(planned.volid.storage, planned.size)
        changes = {"volume": str(planned.volid), "size": units.format_size(planned.size) if planned.size else None}
        values[key] = str(mount.model_copy(update=changes))
    await check_fits(rooms, wanted)
    return ContainerConfig.parse(values), new


async def free_numbers(
    rooms: Rooms, vmid: int, storages: Iterable[str], taken: Iterable[VolumeId] = ()
) -> Iterator[int]:
    """Numbers for new volumes of a guest: of none that is `taken`, nor of one that lies on the storages unnamed.

    Whatever takes back the making of a volume must not remove one that was there before. Raises NotFound, HostFailure.
    """
    found = {volid.name for volid in taken}
    for storage_id in set(storages):
        storage = await rooms.storages.get(storage_id)
        for content in sorted(storage.capabilities.contents & {"images", "rootdir"}):
            volumes = await storage.list(cast(Content, content), vmid)
            found |= {volume.volid.partition(":")[2] for volume in volumes}
    # The last part of a linked clone's name is its own, those before are its bases'.
    used = {int(match[1]) for name in found if (match := _DISK_NUMBER.search(name.rpartition("/")[2]))}
    return (number for number in itertools.count() if number not in used)


async def _plan(rooms: Rooms, vmid: int, number: int, request: tuple[str, int]) -> NewVolume:
    storage_id, size = request
    storage = await rooms.storages.containers(storage_id)
    return NewVolume(VolumeId(storage_id, storage.volume_name(vmid, number, size)), size)


async def _check_existing(rooms: Rooms, vmid: int, key: str, volid: VolumeId | None) -> None:
    if volid is None:
        if key == "rootfs":
            raise InvalidParameter({key: "the root file system must be a volume, not a folder of the host"})
        return
    storage = await rooms.storages.get(volid.storage)
    volume = await storage.info(volid.name)
    if volume.content not in ("rootdir", "images") or volume.vmid != vmid:
        raise InvalidParameter({key: f"volume '{volid}' does not belong to CT {vmid}"})


async def allocate_volume(rooms: Rooms, volume: NewVolume) -> None:
    """Make a planned volume. Raises AlreadyExists, NoSpace; leaves nothing when it fails."""
    storage = await rooms.storages.containers(volume.volid.storage)
    await storage.allocate(volume.volid.name, volume.size)


async def delete_volumes(rooms: Rooms, volumes: list[VolumeId]) -> list[str]:
    """Delete volumes, of either kind of guest; what cannot be deleted is returned as sentences, the rest is gone."""
    problems = []
    for volid in volumes:
        try:
            storage = await rooms.storages.get(volid.storage)
            await storage.delete(volid.name)
        except NotFound:
            continue
        except Exception as error:
            problems.append(f"could not remove volume '{volid}': {error}")
    return problems


async def used_by(storages: Storages, guest: Guest) -> int | None:
    """Bytes that a container's root file system takes, or None where the storage cannot tell cheaply."""
    if guest.kind != "lxc":
        return None
    text = propstring.parse(str(guest.config.get("rootfs", "")), "volume").get("volume")
    if not text:
        return None
    volid = VolumeId.parse(text)
    storage = await storages.containers(volid.storage)
    return await storage.used(volid.name)
