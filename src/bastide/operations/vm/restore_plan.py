"""What a VM's backup becomes on this host: its options, and the volumes that are made for its disks.

A backup's configuration is data of a stranger. Of the volumes that it names only sizes and options count: every disk is
a new volume, and a CD-ROM drive keeps its ISO image only where who restores may use that one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bastide.backup.config_text import ParsedConfig, parse_config_text
from bastide.backup.vma import disk_key
from bastide.base.errors import (
    BastideError,
    HostFailure,
    InvalidParameter,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import VolumeId
from bastide.base.units import format_size
from bastide.model.guest import Guest
from bastide.model.storage import DiskFormat
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_disks import Drive, Volume
from bastide.operations.backup.restoring import Restore
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.vm.configure import hashed_password
from bastide.operations.vm.identity import with_new_identity, with_vmgenid
from bastide.operations.vm.ports import with_hardware_addresses
from bastide.operations.vm.volumes import CLOUDINIT
from bastide.operations.volumes import free_numbers, volumes_of
from bastide.storage.protocol import DiskStorage

RAW_ONLY = frozenset({"efidisk0", "tpmstate0"})
"""What QEMU's firmware and the TPM know in no other format."""

_FORMATS = ("raw", "qcow2", "vmdk")
_CARD = re.compile(r"net\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SavedDisk:
    """A disk in a backup: its key, its name there (`drive-scsi0`), its size in bytes, where and in what form it was."""

    key: str
    device: str
    size: int
    storage: str = ""
    form: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a VM's backup: its configuration, and its disks by their keys."""

    parsed: ParsedConfig
    disks: Mapping[str, SavedDisk]


@dataclass(frozen=True, slots=True)
class RestoredDisk:
    """A volume to make, of `saved.size` bytes."""

    saved: SavedDisk
    volid: VolumeId
    form: DiskFormat

    @property
    def key(self) -> str:
        """The disk's option."""
        return self.saved.key


@dataclass(frozen=True, slots=True)
class Plan:
    """The restored VM's options, the volumes to make, and what its user has to know.

    `drive` is the configuration drive's volume, which is written anew; `left_out` are the keys of disks that the backup
    does not hold; `template` says that the backup is a template's.
    """

    config: VmConfig
    disks: Sequence[RestoredDisk]
    drive: VolumeId | None
    left_out: Sequence[str]
    warnings: Sequence[str]
    template: bool = False

    @property
    def volumes(self) -> list[VolumeId]:
        """What is made, the configuration drive too."""
        return [disk.volid for disk in self.disks] + ([] if self.drive is None else [self.drive])


def contents(text: str, sizes: Mapping[str, int]) -> Contents:
    """What a backup's configuration and its disks, {name in the backup: bytes}, say together.

    A disk is called by its key, or as the configuration's map says. Raises InvalidParameter for a configuration that
    cannot be read, HostFailure for one that does not fit the disks.
    """
    parsed = parse_config_text(text, "qemu")
    disks = {}
    for key, drive in parsed.drives.items():
        name = next((name for name in (disk_key(drive.device), drive.device, key) if name in sizes), None)
        if name is None:
            raise HostFailure(f"the backup has no data for its drive '{key[:40]}'")
        if not _is_disk(key):
            raise HostFailure(f"the backup has data for '{key[:40]}', which is no drive")
        disks[key] = SavedDisk(key, name, sizes[name], drive.storage, drive.format)
    mapped = {disk.device for disk in disks.values()}
    if len(mapped) < len(disks):
        raise HostFailure("the backup has the same data for two drives")
    for name, size in sizes.items():
        if name not in mapped and name in parsed.options and _is_disk(name):
            disks[name] = SavedDisk(name, name, size, *_place(parsed.options[name]))
    for disk in disks.values():
        if disk.size <= 0:
            raise HostFailure(f"the backup's drive '{disk.key}' has no size")
    return Contents(parsed, disks)


def _is_disk(key: str) -> bool:
    try:
        return bool(dict(VmOptions.parse({key: "none"}).volumes()))
    except InvalidParameter:
        return False


def _place(option: str) -> tuple[str, str]:
    """The storage and the format that an option's volume had."""
    file = option.partition(",")[0].removeprefix("file=")
    storage, colon, name = file.partition(":")
    form = name.rpartition(".")[2]
    return (storage if colon else ""), (form if form in _FORMATS else "")


async def plan_restore(
    rooms: Rooms, vmid: int, found: Contents, given: VmOptions, wish: Restore, *, before: Guest | None = None
) -> Plan:
    """Give every disk of a backup its place. `given` are options in place of the backup's, `before` the VM to replace.

    Raises InvalidParameter naming `storage` when a disk has nowhere to go, or the key of one that does not fit; and
    what `wish.permit` raises.
    """
    planner = _Planner(rooms, vmid, wish, before)
    warnings = [*found.parsed.warnings]
    options = _options(await _permitted(found, given, wish, warnings), wish)
    disks = {disk.key: disk for disk in await planner.disks(found.disks)}
    values = options.to_text()
    drive: VolumeId | None = None
    left_out: list[str] = []
    for key, volume in options.volumes():
        if key in disks:
            values[key] = _named(volume, str(disks[key].volid), size=format_size(disks[key].saved.size), media=None)
        elif CLOUDINIT.search(volume.file):
            drive = drive or await planner.cloudinit(volume)
            values[key] = _named(volume, str(drive), media="cdrom")
        elif isinstance(volume, Drive) and volume.is_cdrom:
            name = await planner.medium(key, volume.file)
            values[key] = str(volume) if name == volume.file else _named(volume, name, size=None)
            if name != volume.file:
                warnings.append(f"{key}: the drive comes back empty: there is no '{volume.file}' for it here")
        else:
            left_out.append(key)
            del values[key]
    config = _merged(VmConfig.parse(values), given)
    await check_fits(rooms, {key: Wanted(disk.volid.storage, disk.saved.size) for key, disk in disks.items()})
    await wish.permit(config)
    is_template = found.parsed.options.get("template", "0") != "0"
    return Plan(config, list(disks.values()), drive, left_out, warnings, is_template)


def _named(volume: Volume, file: str, **changes: str | None) -> str:
    """An option that names another volume."""
    known = {key: value for key, value in changes.items() if key in type(volume).model_fields}
    return str(volume.model_copy(update={"file": file, "format": None, "import_from": None, **known}))


async def _permitted(found: Contents, given: VmOptions, wish: Restore, warnings: list[str]) -> dict[str, str]:
    """The backup's options without those that who restores may not set.

    Volumes and network cards are not among them: the ones are made anew, the others can be given in place of these.
    """
    kept = {}
    others = given.to_text()
    for key, value in found.parsed.options.items():
        if key == "template":
            continue
        if key not in others and not _is_disk(key) and not _CARD.fullmatch(key):
            try:
                await wish.permit(VmConfig.parse({key: value}))
            except BastideError as error:
                warnings.append(f"'{key}' of the backup is left out: {error}")
                continue
        kept[key] = value
    # A disk whose options cannot be understood here is a disk all the same.
    return {**dict.fromkeys(found.disks, "none"), **kept}


def _options(values: Mapping[str, str], wish: Restore) -> VmConfig:
    """The backup's options with a generation of its own, and with `unique` an identity."""
    options = VmConfig.parse(values)
    if wish.unique:
        return cast(VmConfig, with_new_identity(options))
    if options.vmgenid in (None, "0"):
        return options
    return cast(VmConfig, with_vmgenid(options.model_copy(update={"vmgenid": "1"})))


def _merged(config: VmConfig, given: VmOptions) -> VmConfig:
    """What is given has the last word; a network card that is given without an address has the one that it had."""
    told = with_hardware_addresses(hashed_password(given), config).to_text()
    merged = VmConfig.parse({**config.to_text(), **told})
    return cast(VmConfig, with_vmgenid(with_hardware_addresses(merged)))


class _Planner:
    """Finds places for one VM's volumes."""

    def __init__(self, rooms: Rooms, vmid: int, wish: Restore, before: Guest | None) -> None:
        self._rooms = rooms
        self._vmid = vmid
        self._wish = wish
        self._before = before

    async def disks(self, saved: Mapping[str, SavedDisk]) -> list[RestoredDisk]:
        """The volumes to make, in the order of their keys."""
        places = {key: await self._place(key, disk.storage) for key, disk in sorted(saved.items())}
        taken = [] if self._before is None else volumes_of(self._before)
        names = {storage.config.storage for storage in places.values()}
        numbers = await free_numbers(self._rooms, self._vmid, names, taken)
        return [self._disk(saved[key], storage, next(numbers)) for key, storage in places.items()]

    def _disk(self, saved: SavedDisk, storage: DiskStorage, number: int) -> RestoredDisk:
        known = storage.capabilities.disk_formats
        form = next((one for one in known if one == saved.form), storage.capabilities.default_disk_format)
        if saved.key in RAW_ONLY:
            form = "raw"
        volid = VolumeId(storage.config.storage, storage.disk_name(self._vmid, number, form))
        return RestoredDisk(saved, volid, form)

    async def cloudinit(self, volume: Volume) -> VolumeId:
        """The volume of the configuration drive."""
        storage = await self._place("the cloud-init drive", volume.file.partition(":")[0])
        return VolumeId(storage.config.storage, storage.disk_name(self._vmid, "cloudinit", "raw"))

    async def medium(self, key: str, file: str) -> str:
        """The ISO image that stays in a CD-ROM drive, else `none`."""
        if file == "none":
            return file
        try:
            storage, name = await self._rooms.storages.resolve(file)
            there = (await storage.info(name)).content == "iso"
            await self._wish.permit(VmConfig.parse({key: f"{file},media=cdrom"}))
        except BastideError:
            return "none"
        return file if there else "none"

    async def _place(self, what: str, storage_id: str) -> DiskStorage:
        asked = self._wish.storage
        try:
            return await self._rooms.storages.disks(asked or storage_id or "local")
        except (NotFound, NotSupported, WrongState) as error:
            if asked is not None:
                raise InvalidParameter({"storage": str(error)}) from None
            raise InvalidParameter(
                {"storage": f"{what} has no place here: {error}; say which storage to use"}
            ) from None
