"""Changes that a running VM takes at once."""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bastide.base.errors import DeadlineExceeded, NotSupported
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.model.vm import VmConfig
from bastide.model.vm_devices import VmInterface
from bastide.model.vm_disks import Drive
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit
from bastide.operations.vm.plan import vm_plan
from bastide.operations.vm.ports import port, ports
from bastide.operations.vm.volumes import CLOUDINIT

_RECORD_ONLY = frozenset({
    "autostart", "description", "hookscript", "hotplug", "lock", "migrate_downtime", "migrate_speed", "name", "onboot",
    "protection", "startup", "tags", "template", "vmstatestorage",
})  # fmt: skip
_LIMITS = frozenset({"cpulimit", "cpuunits", "affinity"})
_HOST_SIDE = frozenset({"bridge", "tag", "trunks", "rate", "link_down", "firewall"})
_DRIVE_RECORD_ONLY = frozenset({"backup", "replicate", "shared", "size"})
_RATES = re.compile(r"(bps|iops|mbps)(_.*)?", re.ASCII)
_HOTPLUG_BUS = re.compile(r"(scsi|virtio)\d+", re.ASCII)
_KEY = re.compile(r"([a-z]+)(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Change:
    """A running VM before and after."""

    rooms: Rooms
    guest: Guest
    changed: Guest
    before: VmConfig
    after: VmConfig
    undo: AsyncExitStack

    @property
    def vmid(self) -> int:
        return self.guest.vmid


async def apply(
    rooms: Rooms, guest: Guest, values: Mapping[str, Scalar], removed: list[str], undo: AsyncExitStack
) -> set[str]:
    """Apply what can be applied to the running VM and return those keys; the others must wait.

    The inverse of each step goes onto `undo`.
    """
    touched = {*values, *removed}
    merged = {key: value for key, value in {**guest.config, **values}.items() if key not in removed}
    change = _Change(
        rooms, guest, replace(guest, config=merged), VmConfig.parse(guest.config), VmConfig.parse(merged), undo
    )
    now = {key for key in touched if key in _RECORD_ONLY or key.startswith("unused")}
    if touched & _LIMITS:
        undo.push_async_callback(rooms.vms.set_limits, guest.vmid, change.before)
        await rooms.vms.set_limits(guest.vmid, change.after)
        now |= touched & _LIMITS
    for key in sorted(touched - now):
        try:
            if await _apply_one(change, key):
                now.add(key)
        except (NotSupported, DeadlineExceeded):
            # It cannot be done while the VM runs, or its guest does not let go of a device: the next start does it.
            continue
    return now


async def _apply_one(change: _Change, key: str) -> bool:
    """Whether a change took effect."""
    if change.guest.config.get(key) == change.changed.config.get(key):
        return True
    for fits, act in _ACTS:
        if fits(key):
            return await act(change, key)
    return False


def _index(key: str) -> int:
    match = _KEY.fullmatch(key)
    return int(match[2]) if match else 0


async def _balloon(change: _Change, _key: str) -> bool:
    old, new = change.before.balloon, change.after.balloon
    if old == 0 or new == 0:
        return False  # the device itself comes or goes
    change.undo.push_async_callback(change.rooms.vms.set_balloon, change.vmid, old or change.before.memory_mib)
    await change.rooms.vms.set_balloon(change.vmid, new or change.before.memory_mib)
    return True


async def _memory(change: _Change, _key: str) -> bool:
    if "memory" not in change.after.hotplugged:
        return False
    change.undo.push_async_callback(change.rooms.vms.set_memory, change.vmid, change.before.memory_mib)
    await change.rooms.vms.set_memory(change.vmid, change.after.memory_mib)
    return True


async def _vcpus(change: _Change, _key: str) -> bool:
    if "cpu" not in change.after.hotplugged:
        return False
    change.undo.push_async_callback(change.rooms.vms.set_vcpus, change.vmid, change.before.vcpu_count)
    await change.rooms.vms.set_vcpus(change.vmid, change.after.vcpu_count)
    return True


async def _cloudinit(change: _Change, _key: str) -> bool:
    if "cloudinit" not in change.after.hotplugged:
        return False
    change.undo.push_async_callback(cloudinit.insert_drive, change.rooms, change.guest)
    await cloudinit.insert_drive(change.rooms, change.changed)
    return True


async def _usb(change: _Change, key: str) -> bool:
    index, vms = _index(key), change.rooms.vms
    if "usb" not in change.after.hotplugged:
        return False
    old, new = change.before.usb.get(index), change.after.usb.get(index)
    if old is not None:
        plan = await vm_plan(change.rooms, change.guest)
        await vms.remove_usb(change.vmid, index)
        change.undo.push_async_callback(vms.add_usb, plan, index)
    if new is not None:
        plan = await vm_plan(change.rooms, change.changed)
        await vms.add_usb(plan, index)
        change.undo.push_async_callback(vms.remove_usb, change.vmid, index)
    return True


async def _interface(change: _Change, key: str) -> bool:
    index, rooms = _index(key), change.rooms
    old, new = change.before.net.get(index), change.after.net.get(index)
    if "network" not in change.after.hotplugged:
        return False
    if old is not None and new is not None and _same_card(old, new):
        change.undo.push_async_callback(_reconnect, change, index, old)
        await _reconnect(change, index, new)
        return True
    change.undo.push_async_callback(_register, rooms, change.guest)
    await _register(rooms, change.changed)
    if old is not None:
        await rooms.vms.remove_interface(change.vmid, index)
        change.undo.push_async_callback(_add_interface, rooms, change.guest, index)
    if new is not None:
        await _add_interface(rooms, change.changed, index)
        change.undo.push_async_callback(rooms.vms.remove_interface, change.vmid, index)
    return True


def _same_card(old: VmInterface, new: VmInterface) -> bool:
    """Whether the guest's side stays as it is, so that only the host's changes."""
    inside = set(VmInterface.model_fields) - _HOST_SIDE
    return all(getattr(old, field) == getattr(new, field) for field in inside)


async def _reconnect(change: _Change, index: int, nic: VmInterface) -> None:
    await change.rooms.vms.set_link(change.vmid, index, up=not nic.link_down)
    await change.rooms.network.connect(change.vmid, index, port(nic), "qemu")


async def _register(rooms: Rooms, guest: Guest) -> None:
    """Addresses and guards come before the card that they are for."""
    await rooms.network.register(guest.vmid, guest.name, ports(VmConfig.parse(guest.config)), "qemu")


async def _add_interface(rooms: Rooms, guest: Guest, index: int) -> None:
    await rooms.vms.add_interface(await vm_plan(rooms, guest), index)
    try:
        await rooms.network.connect(guest.vmid, index, ports(VmConfig.parse(guest.config))[index], "qemu")
    except BaseException:
        await rooms.vms.remove_interface(guest.vmid, index)
        raise


async def _drive(change: _Change, key: str) -> bool:
    old, new = dict(change.before.drives()).get(key), dict(change.after.drives()).get(key)
    if old is not None and new is not None and old.is_cdrom and new.is_cdrom:
        return await _medium(change, key, old, new)
    if "disk" not in change.after.hotplugged:
        return False
    if old is not None and new is not None and old.file == new.file:
        return await _drive_options(change, key, old, new)
    if _HOTPLUG_BUS.fullmatch(key) is None:
        return False
    vms = change.rooms.vms
    if old is not None:
        plan = await vm_plan(change.rooms, change.guest)
        await vms.remove_disk(change.vmid, key)
        change.undo.push_async_callback(vms.add_disk, plan, key)
    if new is not None:
        await vms.add_disk(await vm_plan(change.rooms, change.changed), key)
        change.undo.push_async_callback(vms.remove_disk, change.vmid, key)
    return True


async def _medium(change: _Change, key: str, old: Drive, new: Drive) -> bool:
    """Another medium in a CD-ROM drive; its other options wait."""
    if _differing(old, new) - {"file"} - _DRIVE_RECORD_ONLY:
        return False
    if CLOUDINIT.search(new.file):
        await cloudinit.write_drive(change.rooms, change.changed)
    change.undo.push_async_callback(change.rooms.vms.change_medium, await vm_plan(change.rooms, change.guest), key)
    await change.rooms.vms.change_medium(await vm_plan(change.rooms, change.changed), key)
    return True


async def _drive_options(change: _Change, key: str, old: Drive, new: Drive) -> bool:
    """Other rates, or what concerns the record alone."""
    differing = _differing(old, new) - _DRIVE_RECORD_ONLY
    if any(_RATES.fullmatch(name) is None for name in differing):
        return False
    if differing:
        vms = change.rooms.vms
        change.undo.push_async_callback(vms.change_disk_limits, await vm_plan(change.rooms, change.guest), key)
        await vms.change_disk_limits(await vm_plan(change.rooms, change.changed), key)
    return True


def _differing(old: Drive, new: Drive) -> set[str]:
    return {name for name in type(new).model_fields if getattr(old, name, None) != getattr(new, name, None)}


_ACTS: tuple[tuple[Callable[[str], object], Callable[[_Change, str], Awaitable[bool]]], ...] = (
    (re.compile(r"net\d+").fullmatch, _interface),
    (re.compile(r"(ide|sata|scsi|virtio)\d+").fullmatch, _drive),
    (re.compile(r"usb\d+").fullmatch, _usb),
    (re.compile(r"balloon|shares").fullmatch, _balloon),
    (re.compile(r"memory").fullmatch, _memory),
    (re.compile(r"vcpus").fullmatch, _vcpus),
    (cloudinit.is_cloudinit_key, _cloudinit),
)
