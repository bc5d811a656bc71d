"""What each option of a VM needs beyond the method's own permission, as Proxmox VE 9.1 decides it.

Tables: option -> privilege on the guest, or -> a rule for an option whose value decides. What no table knows is
root@pam's alone, as is whatever names a file, device or program of the host's; a token is never root@pam.
A rule that decides by the value is asked of the new value and of the present one.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bastide.api.guest_permissions import Place, check_bridge, root_only
from bastide.api.volume_permissions import check_volume
from bastide.base.errors import InvalidParameter, MethodNotImplemented
from bastide.base.ids import VolumeId
from bastide.model.record import indexed_fields
from bastide.model.vm import VmOptions
from bastide.model.vm_devices import CiCustom, HostPci, Rng, Usb, Virtiofs, VmInterface
from bastide.model.vm_disks import Drive, UnusedDisk, Volume
from bastide.operations.vm.create import needs_firmware_disks
from bastide.operations.vm.volumes import CLOUDINIT
from bastide.operations.volumes import parse_request

_PRIVILEGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("cores", "cpu", "cpulimit", "cpuunits", "numa", "smp", "sockets", "vcpus"), ("VM.Config.CPU",)
        ),
        **dict.fromkeys(("memory", "balloon", "shares", "allow-ksm"), ("VM.Config.Memory",)),
        **dict.fromkeys(
            ("acpi", "audio0", "hotplug", "kvm", "machine", "rng0", "scsihw", "smbios1", "tablet", "vga", "watchdog",
             "usb", "hostpci", "serial"), ("VM.Config.HWType",)
        ),
        **dict.fromkeys(
            ("agent", "autostart", "bios", "description", "keyboard", "localtime", "migrate_downtime", "migrate_speed",
             "name", "onboot", "ostype", "protection", "reboot", "startdate", "startup", "tags", "tdf", "template"),
            ("VM.Config.Options",),
        ),
        **dict.fromkeys(
            ("boot", "bootdisk", "efidisk0", "ide", "sata", "scsi", "tpmstate0", "unused", "virtio", "virtiofs",
             "vmstatestorage"), ("VM.Config.Disk",)
        ),
        "freeze": ("VM.PowerMgmt",),
        "net": ("VM.Config.Network",),
        # either of them is enough
        **dict.fromkeys(
            ("cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "ipconfig", "nameserver", "searchdomain",
             "sshkeys"), ("VM.Config.Cloudinit", "VM.Config.Network")
        ),
    }
)  # fmt: skip

_CDROM = "VM.Config.CDROM"
_NEW_CLOUDINIT = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):cloudinit", re.ASCII)
_INDEX = re.compile(r"\d+$", re.ASCII)
_WHOLE_NAMES = frozenset({"audio0", "efidisk0", "rng0", "smbios1", "tpmstate0"})

Rule = Callable[[Place, str, Any], Awaitable[None]]


async def check_create(place: Place, options: VmOptions, *, storage: str) -> None:
    """Raise PermissionDenied unless the caller may make this VM; MethodNotImplemented for resource mappings."""
    call, pool = place.call, place.pool
    if not call.is_root:
        if pool is None or not await call.may(f"/pool/{pool}", "VM.Allocate"):
            await call.require(f"/vms/{place.vmid}", "VM.Allocate")
        if needs_firmware_disks(options):
            await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
        await check_options(place, options)
    refuse_mappings(options)


async def check_options(
    place: Place, options: VmOptions, removed: Iterable[str] = (), present: Sequence[VmOptions] = ()
) -> None:
    """Raise PermissionDenied unless the caller may set these options and delete or revert those.

    `present` are the configuration of a VM that exists and its pending changes.
    """
    if place.call.is_root:
        return
    new = dict(settings(options))
    known = [dict(settings(one)) for one in present]
    for key in sorted({*new, *removed}):
        values = [one[key] for one in (new, *known) if key in one]
        await _check_option(place, key, values)
    for key, value in new.items():
        reach = _REACH.get(stem(key))
        if reach is not None:
            await reach(place, key, value)


async def check_copied(place: Place, options: VmOptions) -> None:
    """Raise PermissionDenied unless the caller may give a copy what a VM has of the host: hardware and bridges."""
    if place.call.is_root:
        return
    for key, value in settings(options):
        rule = _reach_bridge if stem(key) == "net" else _HARDWARE.get(stem(key))
        if rule is not None:
            await rule(place, key, value)


async def check_restore(place: Place, options: VmOptions, *, storage: str | None) -> None:
    """Raise PermissionDenied unless the caller may give a VM these options in place of a backup's own."""
    if storage is not None:
        await place.call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    await check_options(place, options)


async def check_restored(place: Place, options: VmOptions) -> None:
    """Raise PermissionDenied unless the caller may let a VM have what a backup's configuration asks of the host.

    That is what root@pam alone may set, hardware, bridges, ISO images and snippets, and space for its disks.
    """
    if place.call.is_root:
        return
    for key, value in settings(options):
        name = stem(key)
        if name not in _PRIVILEGES and name not in _IDENTITY:
            raise root_only(f"only root can set '{key}' config")
        rule = _HARDWARE.get(name) or _RESTORED.get(name)
        if rule is not None:
            await rule(place, key, value)


def refuse_mappings(options: VmOptions) -> None:
    """Raise MethodNotImplemented for what names a resource mapping, which there are none of yet."""
    named = [f"usb{index}" for index, usb in options.usb.items() if usb.mapping is not None]
    named += [f"hostpci{index}" for index, device in options.hostpci.items() if device.mapping is not None]
    named += [f"virtiofs{index}" for index in options.virtiofs]
    if named:
        raise MethodNotImplemented(f"parameter '{named[0]}' not implemented: there are no resource mappings yet")


def stem(key: str) -> str:
    """`scsi0` -> `scsi`: an option's name without its index."""
    return key if key in _WHOLE_NAMES else _INDEX.sub("", key)


def settings(options: VmOptions) -> Iterator[tuple[str, Any]]:
    """Every option that is set, by its key in the text form, with its value."""
    stems = indexed_fields(VmOptions)
    for name, field in VmOptions.model_fields.items():
        key, value = field.alias or name, getattr(options, name)
        if isinstance(value, dict):
            yield from ((f"{stems[key]}{index}", entry) for index, entry in value.items())
        elif value is not None:
            yield key, value


async def _check_option(place: Place, key: str, values: Sequence[Any]) -> None:
    name = stem(key)
    if name not in _PRIVILEGES:
        raise root_only(f"only root can set '{key}' config")
    decide = _BY_VALUE.get(name)
    if decide is None or not values:
        await place.require(*_PRIVILEGES[name], any_of=True)
        decide = _HARDWARE.get(name)
    if decide is not None:
        for value in values:
            await decide(place, key, value)


async def _drive(place: Place, _key: str, drive: Volume) -> None:
    cdrom = isinstance(drive, Drive) and drive.is_cdrom
    await place.require(_CDROM if cdrom else "VM.Config.Disk")


async def _serial(_place: Place, key: str, value: str) -> None:
    if value != "socket":
        raise root_only(f"only root can set '{key}' config for real devices")


async def _parallel(_place: Place, key: str, _value: str) -> None:
    raise root_only(f"only root can set '{key}' config")


async def _usb(place: Place, key: str, usb: Usb) -> None:
    if usb.mapping is not None and usb.host is None:
        await place.call.require(f"/mapping/usb/{usb.mapping}", "Mapping.Use")
    elif usb.host is None:
        raise InvalidParameter({key: "either 'host' or 'mapping' must be set."})
    elif usb.host.lower() != "spice":
        raise root_only(f"only root can set '{key}' config for real devices")


async def _hostpci(place: Place, key: str, device: HostPci) -> None:
    if device.romfile is not None:
        raise root_only(f"only root@pam can set 'romfile' option of '{key}'")
    if device.host is not None:
        raise root_only(f"only root can set '{key}' config for non-mapped devices")
    if device.mapping is None:
        raise InvalidParameter({key: "either 'host' or 'mapping' must be set."})
    await place.call.require(f"/mapping/pci/{device.mapping}", "Mapping.Use")


async def _virtiofs(place: Place, _key: str, folder: Virtiofs) -> None:
    await place.call.require(f"/mapping/dir/{folder.dirid}", "Mapping.Use")


async def _rng(place: Place, _key: str, rng: Rng) -> None:
    if rng.source == "/dev/hwrng":
        await place.call.require("/mapping/hwrng", "Mapping.Use")


async def _startup(place: Place, _key: str, _value: Any) -> None:
    await place.require("VM.Config.Options")
    # The order in which all guests start is the host's.
    await place.call.require("/", "Sys.Modify")


_HARDWARE: Mapping[str, Rule] = MappingProxyType(
    {
        "serial": _serial,
        "parallel": _parallel,
        "usb": _usb,
        "hostpci": _hostpci,
        "virtiofs": _virtiofs,
        "rng0": _rng,
    }
)
"""What of the host a VM gets hold of."""

_BY_VALUE: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("ide", "sata", "scsi", "virtio", "efidisk0", "tpmstate0"), _drive),
        "startup": _startup,
    }
)


async def _reach_volume(place: Place, key: str, volume: Volume | UnusedDisk) -> None:
    cloudinit, fresh = _NEW_CLOUDINIT.fullmatch(volume.file), parse_request(volume.file)
    storage = cloudinit[1] if cloudinit else fresh[0] if fresh else None
    if volume.file == "cdrom":
        await place.call.require("/", "Sys.Console")
    elif storage is not None:
        await place.call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    elif volume.file != "none":
        await _reach_file(place, key, volume.file)
    if isinstance(volume, Volume) and volume.import_from is not None:
        await _reach_source(place, key, volume.import_from)


async def _reach_file(place: Place, key: str, file: str) -> None:
    if file.startswith("/"):
        raise root_only(f"only root can use a path of the host's in '{key}'")
    try:
        await check_volume(place.call, file, place.vmid)
    except InvalidParameter as error:
        raise InvalidParameter({key: str(error)}) from None


async def _reach_source(place: Place, key: str, source: str) -> None:
    """An image to import: another guest's disk is copied, which is what VM.Clone allows."""
    if ":" in source and not source.startswith("/"):
        storage, name = await place.call.rooms.storages.resolve(source)
        owner = (await storage.info(name)).vmid
        if owner is not None:
            await place.call.require(f"/vms/{owner}", "VM.Clone")
            return
    await _reach_file(place, key, source)


async def _reach_bridge(place: Place, _key: str, nic: VmInterface) -> None:
    await check_bridge(place.call, nic)


async def _reach_storage(place: Place, _key: str, storage: str) -> None:
    await place.call.require(f"/storage/{storage}", "Datastore.AllocateSpace")


async def _reach_snippets(place: Place, key: str, custom: CiCustom) -> None:
    for volume in custom.to_text().values():
        VolumeId.parse(str(volume))
        await _reach_file(place, key, str(volume))


_REACH: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("ide", "sata", "scsi", "virtio", "efidisk0", "tpmstate0", "unused"), _reach_volume),
        "net": _reach_bridge,
        "vmstatestorage": _reach_storage,
        "cicustom": _reach_snippets,
    }
)


async def _reach_restored(place: Place, key: str, volume: Volume) -> None:
    """A new volume for a backup's disk, or what is in a CD-ROM drive."""
    cdrom = isinstance(volume, Drive) and volume.is_cdrom
    if cdrom and not CLOUDINIT.search(volume.file):
        await _reach_volume(place, key, volume)
    elif volume.file != "none":
        storage = VolumeId.parse(volume.file).storage
        await place.call.require(f"/storage/{storage}", "Datastore.AllocateSpace")


_RESTORED: Mapping[str, Rule] = MappingProxyType(
    {**_REACH, **dict.fromkeys(("ide", "sata", "scsi", "virtio", "efidisk0", "tpmstate0"), _reach_restored)}
)
"""What a backup's options reach beyond the guest: its disks are new volumes, whose names are known already."""

_IDENTITY = frozenset({"vmgenid"})
"""What a restored VM keeps or gets anew, whoever restores it."""
