"""The host's own disks: listed, asked for their health, given a partition table, wiped.

Nothing is written to a disk that is mounted, swapped to, part of something larger, given to a guest or open in a
process. That is looked at when a request comes, and once more right before the act, with the disk held exclusively.
"""

import asyncio
import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from bastide.base.errors import BastideError, InvalidParameter, WrongState
from bastide.base.ids import Upid
from bastide.host import block_devices, disk_labels, smart
from bastide.host.block_devices import BlockDevice
from bastide.model.access import Identity
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

_DEVICE = re.compile(r"/dev/[^,;=\s]+", re.ASCII)
_working: set[str] = set()
"""Disks that a task of this daemon works on."""

ListType = Literal["unused", "journal_disks"]


async def list_disks(
    kind: ListType | None = None, *, partitions: bool = False, health: bool = True
) -> list[dict[str, Any]]:
    """The disks as Proxmox VE shows them: those of a kind, with their partitions, asked for their health."""
    found = [disk for disk in await block_devices.disks() if _is(disk, kind)]
    told = await asyncio.gather(*(_health(disk) for disk in found)) if health else [None] * len(found)
    rows = []
    for disk, one in zip(found, told, strict=True):
        rows.append(_disk_row(disk, one))
        rows += [_row(part, "partition") for part in disk.partitions] if partitions else []
    return rows


async def health_of(path: str, *, health_only: bool = False) -> smart.Health:
    """A disk's health. Raises InvalidParameter for what is no disk, NotSupported without smartctl, HostFailure."""
    _, disk = block_devices.find(await block_devices.disks(), path)
    return await smart.read(disk.path, health_only=health_only)


async def init_gpt(rooms: Rooms, by: Identity, path: str, label: str | None = None) -> Upid:
    """Give an unused disk an empty GPT, with that UUID. Raises InvalidParameter, WrongState."""
    if label is not None:
        try:
            label = str(uuid.UUID(label))
        except ValueError:
            raise InvalidParameter({"uuid": f"'{label[:40]}' is not a UUID"}) from None
    device = await _for_gpt(rooms, path)

    async def work(task: Task) -> None:
        with reserved(device):
            again = await _for_gpt(rooms, device.path)
            task.log(f"write a GPT to {again.path}")
            with disk_labels.held(again):
                await disk_labels.make_gpt(again, label)

    return await rooms.tasks.start("diskinit", device.name, by, work)


async def wipe(rooms: Rooms, by: Identity, path: str) -> Upid:
    """Wipe a disk or a partition that nothing uses. Raises InvalidParameter, WrongState."""
    device = await free_device(rooms, path)

    async def work(task: Task) -> None:
        with reserved(device):
            await wipe_now(rooms, task, device.path)

    return await rooms.tasks.start("wipedisk", device.name, by, work)


async def wipe_now(rooms: Rooms, task: Task, path: str) -> None:
    """Wipe a device that the caller has reserved. Raises InvalidParameter, WrongState, HostFailure."""
    device = await free_device(rooms, path)
    task.log(f"wipe {device.path}" + (f" with {len(device.partitions)} partitions" if device.partitions else ""))
    with disk_labels.held(device) as descriptor:
        await disk_labels.wipe(descriptor, device)
    disk_labels.signatures_gone(await block_devices.disks(probe=True), device.path)


async def free_device(rooms: Rooms, path: str, parameter: str = "disk") -> BlockDevice:
    """A disk or partition that may be overwritten. Raises InvalidParameter, WrongState with every reason."""
    device, disk = block_devices.find(await block_devices.disks(probe=True), path, parameter)
    touched = {device.path: device for device in (*device.whole, disk)}
    reasons = [*block_devices.uses(device), *await _guests_with(rooms, set(touched))]
    if not reasons:
        processes = await asyncio.to_thread(block_devices.openers, tuple(touched.values()))
        reasons = [f"it is open in {name}" for name in processes]
    if reasons:
        raise WrongState(f"{device.path} is in use: {'; '.join(reasons)}")
    return device


async def empty_device(rooms: Rooms, path: str, parameter: str = "device") -> BlockDevice:
    """A disk or partition with nothing on it. Raises InvalidParameter, WrongState that says how to empty it."""
    device = await free_device(rooms, path, parameter)
    if device.used is not None:
        raise WrongState(
            f"{device.path} is not empty ({device.used}): wipe it first, with PUT disks/wipedisk or bastide disks wipe"
        )
    return device


@contextlib.contextmanager
def reserved(*devices: BlockDevice) -> Iterator[None]:
    """Keep other tasks of this daemon from the disks while entered. Raises WrongState when one is at them."""
    paths = {device.parent or device.path for device in devices}
    busy = paths & _working
    if busy:
        raise WrongState(f"another task works on {min(busy)}")
    _working.update(paths)
    try:
        yield
    finally:
        _working.difference_update(paths)


async def _for_gpt(rooms: Rooms, path: str) -> BlockDevice:
    device = await empty_device(rooms, path, "disk")
    if device.parent is not None:
        raise InvalidParameter({"disk": f"{device.path} is a partition"})
    if device.gpt:
        raise WrongState(f"{device.path} has a GPT already")
    return device


async def _guests_with(rooms: Rooms, paths: set[str]) -> list[str]:
    """The guests whose configuration names one of the devices, by whatever name below /dev."""
    found = []
    for guest in await rooms.guests.list():
        texts = [str(value) for source in (guest.config, guest.pending) for value in source.values()]
        named = {os.path.realpath(name) for text in texts for name in _DEVICE.findall(text)}
        if named & paths:
            found.append(f"guest {guest.vmid} has {min(named & paths)}")
    return [*found, *(f"the record of guest {vmid} cannot be read" for vmid in rooms.guests.naming("/dev/"))]


def _is(disk: BlockDevice, kind: ListType | None) -> bool:
    if kind == "unused":
        return disk.used is None
    if kind == "journal_disks":
        return disk.used is None or (disk.gpt and disk.used == "partitions")
    return True


async def _health(disk: BlockDevice) -> smart.Health | None:
    with contextlib.suppress(BastideError):
        return await smart.read(disk.path)
    return None


def _disk_row(disk: BlockDevice, health: smart.Health | None) -> dict[str, Any]:
    row = _row(disk, disk.type)
    row |= {
        "gpt": int(disk.gpt),
        "model": disk.model,
        "serial": disk.serial,
        "vendor": disk.vendor,
        "wwn": disk.wwn,
        "rpm": disk.rpm,
        "health": health.health if health else "UNKNOWN",
        "wearout": "N/A" if health is None or health.left is None else health.left,
    }
    link = next((link for link in disk.links if link.startswith("/dev/disk/by-id/")), None)
    return row if link is None else {**row, "by_id_link": link}


def _row(device: BlockDevice, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "devpath": device.path,
        "size": device.size,
        "type": kind,
        "mounted": int(device.mounted),
        "gpt": 1 if device.parent else 0,
        "osdid": -1,
        "osdid-list": None,
    }
    if device.used is not None:
        row["used"] = device.used
    return row if device.parent is None else {**row, "parent": device.parent}
