"""The story of a new VM: reserve the vmid, make the disks, publish, maybe start."""

import time
from contextlib import AsyncExitStack
from dataclasses import replace

from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_devices import Boot, Machine
from bastide.model.vm_disks import EfiDisk, TpmState
from bastide.operations import pools
from bastide.operations.interfaces import check_interfaces
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit, power
from bastide.operations.vm.cloudinit import CloudInit
from bastide.operations.vm.configure import hashed_password
from bastide.operations.vm.identity import with_identity
from bastide.operations.vm.ports import ports, with_hardware_addresses
from bastide.operations.vm.volumes import NewDisk, make_disk, plan_disks, with_size
from bastide.operations.volumes import delete_volumes
from bastide.tasks.tasks import Task

_NEEDS_TPM = frozenset({"win11"})
"""Guests that do not install without UEFI and a TPM."""


async def create_vm(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    options: VmOptions,
    *,
    storage: str | None = None,
    pool: str | None = None,
    start: bool = False,
    cloud: CloudInit | None = None,
    limit: float | None = None,
) -> Upid:
    """Make a VM as a task; `storage` is for what its guest's system needs beside the asked disks.

    `limit` in KiB a second is for images that its disks are made of.

    What can be refused is refused before the task begins: InvalidParameter, NotFound, AlreadyExists. From then on
    the vmid is taken; whatever fails, or a crash, leaves neither record nor volume.
    """
    if pool is not None:
        await pools.get_pool(rooms, pool)
    options = _with_defaults(rooms, options, storage or "local")
    rooms.vms.check(VmConfig.parse(options.to_text()))
    await check_interfaces(rooms, ports(options))
    config, disks = await plan_disks(rooms, vmid, options, [])
    async with rooms.guests.numbering:
        guest = await rooms.guests.create(
            Guest(
                vmid=vmid,
                kind="qemu",
                node=rooms.node,
                config={**config.to_text(), "lock": "create"},
                first_id=await choose_uid(rooms, vmid),
            )
        )

    async def work(task: Task) -> None:
        made = [str(disk.volid) for disk in disks]
        async with rooms.locks.hold(vmid, task.upid, "create", volumes=made), AsyncExitStack() as undo:
            undo.push_async_callback(discard, rooms, guest, [disk.volid for disk in disks], task)
            if cloud is not None:
                await cloudinit.set_data(rooms, vmid, cloud)
            created = await _fill(rooms, replace(guest, config=config.to_text()), disks, task, limit)
            if pool is not None:
                await pools.update_pool(rooms, pool, guests=[vmid])
            if start:
                await power.start_locked(rooms, created, task)
            undo.pop_all()

    try:
        return await rooms.tasks.start("qmcreate", str(vmid), by, work)
    except BaseException:
        await rooms.guests.delete(vmid)
        raise


async def choose_uid(rooms: Rooms, vmid: int) -> int:
    """A user id for a new VM's processes; the caller holds `guests.numbering` until it is stored."""
    taken = await rooms.guests.taken_ids()
    return rooms.vms.choose_uid(vmid, taken)


async def _fill(rooms: Rooms, guest: Guest, disks: list[NewDisk], task: Task, limit: float | None) -> Guest:
    """Make the disks; returns the stored, unlocked record."""
    config = VmConfig.parse(guest.config)
    for disk in disks:
        made = await make_disk(rooms, disk, config, task, limit=limit)
        if made is not None:
            config = with_size(config, disk.key, made.size)
    guest = replace(guest, config=config.to_text())
    await cloudinit.write_drive(rooms, guest)
    if config.is_windows:
        task.log("hint: Windows has no virtio drivers of its own: attach the virtio-win ISO, or use sata and e1000")
    return await rooms.guests.update(guest)


def needs_firmware_disks(options: VmOptions) -> bool:
    """Whether disks for UEFI and a TPM are added to a new VM, on its default storage."""
    asked = options.bios is not None or options.efidisk0 is not None or options.tpmstate0 is not None
    return options.ostype in _NEEDS_TPM and not asked


def _with_defaults(rooms: Rooms, options: VmOptions, storage: str) -> VmOptions:
    """Fill in what is to be fixed for good: addresses, identity, the version of the machine; and what to boot from."""
    options = with_identity(with_hardware_addresses(hashed_password(options)))
    if needs_firmware_disks(options):
        options = options.model_copy(
            update={
                "bios": "ovmf",
                "efidisk0": EfiDisk.model_validate(f"{storage}:1,efitype=4m,pre-enrolled-keys=1"),
                "tpmstate0": TpmState.model_validate(f"{storage}:1,version=v2.0"),
                "machine": options.machine or Machine(type="q35"),
            }
        )
    if options.boot is None and options.bootdisk is None:
        options = options.model_copy(update={"boot": _boot_order(options)})
    pinned = rooms.vms.pin_machine(VmConfig.parse(options.to_text()))
    machine = (options.machine or Machine()).model_copy(update={"type": pinned})
    return VmConfig.parse({**options.to_text(), "machine": str(machine), "meta": f"ctime={int(time.time())}"})


def _boot_order(options: VmOptions) -> Boot | None:
    """The first disk, the first CD-ROM, the first network card."""
    disks = sorted((key for key, drive in options.drives() if not drive.is_cdrom), key=_bus_order)
    cdroms = [key for key, drive in options.drives() if drive.is_cdrom and "cloudinit" not in drive.file]
    cards = [f"net{index}" for index in sorted(options.net)]
    order = [*disks[:1], *cdroms[:1], *cards[:1]]
    return Boot(order=";".join(order)) if order else None


def _bus_order(key: str) -> tuple[int, str]:
    buses = ("scsi", "virtio", "sata", "ide")
    return (next(place for place, bus in enumerate(buses) if key.startswith(bus)), key)


async def discard(rooms: Rooms, guest: Guest, volumes: list[VolumeId], task: Task) -> None:
    """The inverse of everything that makes a VM."""
    if guest.vmid in rooms.vms.running():
        await rooms.vms.stop(guest.vmid)
    await rooms.vms.cleanup(guest.vmid)
    for problem in await delete_volumes(rooms, volumes):
        task.warn(problem)
    await cloudinit.forget(rooms, guest.vmid)
    await rooms.network.forget(guest.vmid)
    await pools.forget_guest(rooms, guest.vmid)
    await rooms.guests.delete(guest.vmid)
