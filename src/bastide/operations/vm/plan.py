"""From a VM's record to the plan that an engine starts: volumes as paths with their formats, names, addresses."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import cast

from bastide.base.errors import InvalidParameter
from bastide.base.ids import VolumeId
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host import pci, vfio
from bastide.model.guest import Guest
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive, Volume
from bastide.operations.rooms import Rooms
from bastide.operations.vm import ports
from bastide.operations.vm.volumes import is_block_device
from bastide.storage.protocol import FileStorage

_CDROM = Path("/dev/cdrom")


async def vm_plan(rooms: Rooms, guest: Guest) -> VmPlan:
    """Everything the engine needs to start the VM. Raises InvalidParameter naming the key that cannot be fulfilled."""
    config = VmConfig.parse(guest.config)
    if guest.first_id is None:
        raise InvalidParameter({"vmid": f"VM {guest.vmid} has no user id"})
    return VmPlan(
        vmid=guest.vmid,
        name=guest.name,
        config=config,
        disks=[await planned_disk(rooms, key, volume, config) for key, volume in config.volumes()],
        taps={index: rooms.network.host_interface(guest.vmid, index, "qemu") for index in config.net},
        uid=guest.first_id,
        machine=rooms.vms.pin_machine(config),
        uuid=_uuid(rooms, guest, config),
        vmgenid=config.vmgenid if config.vmgenid not in (None, "0", "1") else None,
        pci=_pci(rooms, guest, config),
        bridge_mtu={index: mtu for index, nic in config.net.items() if nic.mtu == 1 and (mtu := ports.mtu(nic))},
        keymap=config.keyboard,
    )


async def planned_disk(rooms: Rooms, key: str, volume: Volume, config: VmConfig) -> PlannedDisk:
    """One volume with the file to open; `config` is that of its VM."""
    try:
        disk = await _planned(rooms, key, volume)
        if key == "efidisk0" and config.bios == "ovmf":
            return replace(disk, size=min(disk.size, await _variables_size(rooms, config)) or disk.size)
        return disk
    except InvalidParameter as error:
        raise InvalidParameter({key: "; ".join(error.errors.values())}) from None


async def _planned(rooms: Rooms, key: str, volume: Volume) -> PlannedDisk:
    cdrom = isinstance(volume, Drive) and volume.is_cdrom
    read_only = cdrom or bool(getattr(volume, "ro", False))
    if volume.file == "none":
        return PlannedDisk(key, volume, None, read_only=True)
    if volume.file == "cdrom" or volume.file.startswith("/"):
        path = _CDROM if volume.file == "cdrom" else Path(volume.file)
        if not await asyncio.to_thread(path.exists):
            raise InvalidParameter({key: f"'{path}' does not exist on this host"})
        device = await asyncio.to_thread(is_block_device, path)
        form = "raw" if device or volume.format not in ("qcow2", "vmdk") else volume.format
        return PlannedDisk(key, volume, path, form, read_only=read_only, device=device)
    volid = VolumeId.parse(volume.file)
    storage = await rooms.storages.get(volid.storage)
    found = await storage.info(volid.name)
    if found.content in ("images", "rootdir"):
        image = await (await rooms.storages.disks(volid.storage)).disk_image(volid.name)
        return PlannedDisk(
            key, volume, image.path, image.format, found.size, read_only, device=image.device, backing=image.backing
        )
    path = await cast(FileStorage, storage).file_path(volid.name)
    form = found.format if found.format in ("qcow2", "vmdk") else "raw"
    return PlannedDisk(key, volume, path, form, found.size, read_only)


async def _variables_size(rooms: Rooms, config: VmConfig) -> int:
    """Bytes of the EFI variables; a block device that holds them has whole extents."""
    template = rooms.vms.efi_variables(config)
    return (await asyncio.to_thread(template.stat)).st_size


def _uuid(rooms: Rooms, guest: Guest, config: VmConfig) -> str:
    if config.smbios1 is not None and config.smbios1.uuid is not None:
        return config.smbios1.uuid
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{rooms.layout.instance}/{guest.vmid}"))


def _pci(rooms: Rooms, guest: Guest, config: VmConfig) -> dict[int, list[str]]:
    """The functions of each passed device, or the folder of a mediated one, which the start makes."""
    found: dict[int, list[str]] = {}
    for index, device in config.hostpci.items():
        if device.host is None:
            raise InvalidParameter({f"hostpci{index}": "a mapping is not built: name the device by its address"})
        try:
            found[index] = pci.expand(device.host)
        except InvalidParameter as error:
            raise InvalidParameter({f"hostpci{index}": "; ".join(error.errors.values())}) from None
        if device.mdev is not None:
            name = f"{rooms.layout.instance}/{guest.vmid}/hostpci{index}"
            found[index] = [str(vfio.mdev_path(str(uuid.uuid5(uuid.NAMESPACE_OID, name))))]
    return found
