"""Volumes of a VM: from `STORAGE:GiB` or an image in its options to a volume that is made."""

import asyncio
import contextlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bastide.base import units
from bastide.base.errors import HostFailure, InvalidParameter, NotFound, NotSupported
from bastide.base.ids import VolumeId
from bastide.host import disk_image
from bastide.model.record import Scalar
from bastide.model.storage import DiskImage, VolumeFormat
from bastide.model.storage import Volume as StoredVolume
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_disks import EfiDisk, TpmState, Volume
from bastide.operations.bases import Source, Target, disk_from_base
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits, copy_rate
from bastide.operations.volumes import free_numbers, owned_volumes, parse_request
from bastide.tasks.tasks import Task

Purpose = Literal["disk", "efi", "tpm", "cloudinit"]

CLOUDINIT = re.compile(r"vm-\d+-cloudinit\b", re.ASCII)
"""What the name of a configuration drive's volume holds."""

_TPM_SIZE = 4 * units.MIB
_CLOUDINIT_REQUEST = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):cloudinit", re.ASCII)
_SUFFIXES = {"img": "raw", "raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc"}


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image to make a disk from. `form` is its format in QEMU's name, `ours` that it is some guest's disk.

    `volid` names one that stays as it is: disks can share it. `image` is a guest's disk with what it builds on.
    """

    path: Path
    form: str
    ours: bool = False
    volid: str | None = None
    image: DiskImage | None = None


@dataclass(frozen=True, slots=True)
class NewDisk:
    """A volume to make: `size` in bytes, or what `source` holds."""

    key: str
    volid: VolumeId
    size: int
    purpose: Purpose
    source: ImageSource | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume that snapshots and clones are made of: its key, and what its storage says of it. `size` in bytes."""

    key: str
    volid: VolumeId
    form: VolumeFormat
    size: int


async def plan_disks(
    rooms: Rooms, vmid: int, options: VmOptions, taken: Iterable[VolumeId]
) -> tuple[VmConfig, list[NewDisk]]:
    """Give every requested volume of `options` a name that `taken` does not hold.

    Volumes that no guest names any more keep their names. Returns the options with volume ids in place of the requests,
    and what to make.
    Raises InvalidParameter naming the key, NotFound for a storage that is not there.
    """
    asked = {request[0] for _, volume in options.volumes() if (request := parse_request(volume.file)) is not None}
    numbers = await free_numbers(rooms, vmid, asked, taken)
    values = options.to_text()
    new: list[NewDisk] = []
    for index, unused in options.unused.items():
        await _check_existing(rooms, vmid, f"unused{index}", Volume(file=unused.file))
    for key, volume in options.volumes():
        try:
            planned = await _plan(rooms, vmid, key, volume, numbers)
        except InvalidParameter as error:
            raise InvalidParameter({key: "; ".join(error.errors.values())}) from None
        if planned is None:
            if found := await _check_existing(rooms, vmid, key, volume):
                values[key] = str(volume.model_copy(update={"size": units.format_size(found.size)}))
            continue
        new.append(planned)
        changes: dict[str, str | None] = {"file": str(planned.volid), "import_from": None, "format": None}
        changes["size"] = units.format_size(planned.size) if planned.size else None
        if planned.purpose == "cloudinit":
            changes["media"] = "cdrom"
        values[key] = str(volume.model_copy(update=changes))
    await check_fits(rooms, {disk.key: Wanted(disk.volid.storage, await _length(disk)) for disk in new})
    return VmConfig.parse(values), new


async def _plan(rooms: Rooms, vmid: int, key: str, volume: Volume, numbers: Iterator[int]) -> NewDisk | None:
    """What to make for one key; None when it names something that is there."""
    cloud = _CLOUDINIT_REQUEST.fullmatch(volume.file)
    if cloud is not None:
        storage = await rooms.storages.disks(cloud[1])
        return NewDisk(key, VolumeId(cloud[1], storage.disk_name(vmid, "cloudinit", "raw")), 0, "cloudinit")
    request = parse_request(volume.file)
    if request is None:
        if volume.import_from is not None:
            raise InvalidParameter({key: "'import-from' needs a new volume: write STORAGE:0"})
        return None
    storage = await rooms.storages.disks(request[0])
    purpose = _purpose(volume)
    source = await _source(rooms, volume.import_from) if volume.import_from else None
    size = _TPM_SIZE if purpose == "tpm" else request[1]
    if size == 0 and source is None and purpose == "disk":
        raise InvalidParameter({key: "a disk of size 0: write STORAGE:GiB"})
    form = "raw" if purpose != "disk" else volume.format or storage.capabilities.default_disk_format
    if form not in ("raw", "qcow2", "vmdk") or form not in storage.capabilities.disk_formats:
        known = ", ".join(sorted(storage.capabilities.disk_formats))
        raise InvalidParameter({key: f"storage '{request[0]}' has no disks of the format '{form}': use {known}"})
    volid = VolumeId(request[0], storage.disk_name(vmid, next(numbers), form))
    return NewDisk(key, volid, 0 if source is not None or purpose == "efi" else size, purpose, source)


async def _length(disk: NewDisk) -> int:
    """Bytes of the disk that will be made: as asked, or as its image's header says; 0 where that cannot be read."""
    source = disk.source
    if source is None:
        return disk.size
    with contextlib.suppress(HostFailure):  # the making tells what is wrong with it
        return await asyncio.to_thread(_virtual_size, source)
    return 0


def _virtual_size(source: ImageSource) -> int:
    if source.image is None:
        return disk_image.inspect(source.path, source.form).virtual_size
    with disk_image.opened_chain(source.image) as files:
        return disk_image.inspect(files[0], source.form).virtual_size


def _purpose(volume: Volume) -> Purpose:
    if isinstance(volume, EfiDisk):
        return "efi"
    return "tpm" if isinstance(volume, TpmState) else "disk"


async def _source(rooms: Rooms, text: str) -> ImageSource:
    """The image that `import-from` names: a volume, or a path that the API admits for root alone."""
    if text.startswith("/"):
        path = Path(text)
        if not await asyncio.to_thread(path.is_file):
            raise InvalidParameter({"import-from": f"'{text[:200]}' is not a file"})
        # What a file says of itself decides only where its name says nothing: a guest may have written it.
        form = _SUFFIXES.get(path.suffix.lower().removeprefix("."))
        return ImageSource(path, form or await asyncio.to_thread(disk_image.detect, path) or "raw")
    storage, name = await rooms.storages.resolve(text)
    volume = await storage.info(name)
    if volume.content == "import":
        files = await rooms.storages.files(text.partition(":")[0], "import")
        return ImageSource(await files.file_path(name), volume.format, volid=text)
    if volume.content == "images" and volume.format in ("raw", "qcow2", "vmdk"):
        image = await (await rooms.storages.disks(text.partition(":")[0])).disk_image(name)
        return ImageSource(image.path, image.format, ours=True, image=image)
    raise InvalidParameter({"import-from": f"'{text[:200]}' is not a disk image (STORAGE:import/FILE or a VM's disk)"})


async def _check_existing(rooms: Rooms, vmid: int, key: str, volume: Volume) -> StoredVolume | None:
    """The volume that the option names; None for an empty drive or a device of the host's.

    Raises InvalidParameter unless the VM may use it.
    """
    if volume.file in ("none", "cdrom"):
        if getattr(volume, "media", None) != "cdrom":
            raise InvalidParameter({key: f"'{volume.file}' is for CD-ROM drives: add media=cdrom"})
        return None
    if volume.file.startswith("/"):
        if not await asyncio.to_thread(Path(volume.file).exists):
            raise InvalidParameter({key: f"'{volume.file[:200]}' does not exist on this host"})
        return None
    volid = VolumeId.parse(volume.file)
    try:
        found = await (await rooms.storages.get(volid.storage)).info(volid.name)
    except NotFound as error:
        raise InvalidParameter({key: str(error)}) from None
    if found.content == "iso":
        if getattr(volume, "media", None) != "cdrom":
            raise InvalidParameter({key: f"'{volid}' is an ISO image: add media=cdrom"})
    elif found.content != "images" or found.vmid not in (vmid, None):
        raise InvalidParameter({key: f"volume '{volid}' does not belong to VM {vmid}"})
    return found


async def make_disk(
    rooms: Rooms, disk: NewDisk, config: VmConfig, task: Task | None, *, limit: float | None = None
) -> StoredVolume | None:
    """Make a planned disk; what it is then. The configuration drive is written elsewhere: None.

    `limit` in KiB a second is for what an image holds, and the storage's own for `restore` holds besides. Raises
    AlreadyExists, NoSpace, InvalidParameter for an image that is refused; leaves nothing when it fails.
    """
    if disk.purpose == "cloudinit":
        return None
    storage = await rooms.storages.disks(disk.volid.storage)
    source = disk.source
    if disk.purpose == "efi" and source is None:
        source = ImageSource(rooms.vms.efi_variables(config), "raw", ours=True)
    if source is None:
        await storage.allocate_disk(disk.volid.name, disk.size)
    else:
        rate = await copy_rate(rooms, "restore", {disk.volid.storage}, limit)
        await _import(rooms, source, disk.volid, task, rate)
    made = await storage.info(disk.volid.name)
    if task is not None:
        task.log(f"{disk.key}: '{disk.volid}', {units.format_size(made.size)}")
    return made


async def _import(rooms: Rooms, source: ImageSource, volid: VolumeId, task: Task | None, rate: int) -> None:
    """Make a disk with what an image holds: shared with others of that image where the storage can, else copied."""
    if task is not None:
        task.log(f"importing '{source.path.name}' ({source.form}) as '{volid}'")
    if source.volid is not None:
        size = (await asyncio.to_thread(disk_image.check, source.path, source.form)).virtual_size
        image = Source(source.volid, source.path, source.form)
        if await disk_from_base(rooms, image, Target(volid, size), task, progress(task), rate=rate):
            return
    storage = await rooms.storages.disks(volid.storage)
    await storage.import_disk(
        source.image or source.path, source.form, volid.name, progress(task), ours=source.ours, rate=rate
    )


def progress(task: Task | None) -> Callable[[float], None]:
    """Logs every tenth part of an import."""
    logged = 0

    def tell(percent: float) -> None:
        nonlocal logged
        if task is not None and int(percent) // 10 > logged:
            logged = int(percent) // 10
            task.log(f"{logged * 10:3d}%")

    return tell


def with_size(config: VmConfig, key: str, size: int) -> VmConfig:
    """The configuration with a volume's size in its option."""
    volume = dict(config.volumes())[key]
    return VmConfig.parse({**config.to_text(), key: str(volume.model_copy(update={"size": units.format_size(size)}))})


async def disks_of(rooms: Rooms, vmid: int, config: Mapping[str, Scalar]) -> list[Disk]:
    """The disks of a VM's configuration without CD-ROMs and the configuration drive.

    Raises NotSupported for what is not the VM's own, NotFound for a volume that is gone.
    """
    found = []
    own = owned_volumes(config, vmid)
    for key, volume in VmConfig.parse(config).volumes():
        if volume.file == "none" or getattr(volume, "media", None) == "cdrom" or CLOUDINIT.search(volume.file):
            continue
        if key not in own:
            raise NotSupported(f"{key} is a device of the host's or a volume of others: its state cannot be kept")
        storage, name = await rooms.storages.resolve(volume.file)
        info = await storage.info(name)
        found.append(Disk(key, VolumeId.parse(volume.file), info.format, info.size))
    return found


def cloudinit_drive(config: VmConfig) -> tuple[str, VolumeId] | None:
    """The key and volume of the configuration drive."""
    for key, drive in config.drives():
        if CLOUDINIT.search(drive.file):
            return key, VolumeId.parse(drive.file)
    return None


def is_block_device(path: Path) -> bool:
    """Whether a path is a block device of the host's."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False
