"""Snapshots of VMs: all disks at one point, of a running VM with its memory if that is asked, and the way back."""

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

from bastide.base.errors import BastideError, NotFound, NotSupported
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import MIB
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.snapshot import Snapshot
from bastide.model.vm import VmConfig
from bastide.operations import snapshots
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power, stillness
from bastide.operations.vm.memory import Memory, make_memory_volume, memory_volume, save_memory, sync
from bastide.operations.vm.ports import ports
from bastide.operations.vm.volumes import disks_of
from bastide.operations.volumes import delete_volumes
from bastide.storage.protocol import SnapshotStorage
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task

_SMALL = 64 * MIB
"""What may be copied while a guest stands still: EFI variables, the state of a TPM."""


@dataclass(slots=True)
class Taking:
    """A snapshot being taken under the guest's lock `held`; whatever is made gets its inverse on `undo`."""

    name: str
    held: HeldLock
    task: Task
    description: str | None = None
    memory: bool = False
    undo: AsyncExitStack = field(default_factory=AsyncExitStack)


async def take_snapshot(
    rooms: Rooms, by: Identity, vmid: int, name: str, description: str | None = None, *, memory: bool = False
) -> Upid:
    """Take a snapshot of a VM as a task; of a running one with its `memory` if that is asked.

    What can be refused is refused before the task begins: NotFound, InvalidParameter, AlreadyExists, WrongState,
    Locked, NotSupported. Whatever fails, or a crash, leaves no snapshot of any volume, and a running VM running.
    """
    await check_new(rooms, await rooms.guests.get(vmid, "qemu"), name)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "snapshot") as held:
            taking = Taking(name, held, task, description, memory)
            async with taking.undo:
                await prepare(rooms, await rooms.guests.get(vmid, "qemu"), taking)
                await snapshots.complete(rooms, vmid, name)
                taking.undo.pop_all()

    return await rooms.tasks.start("qmsnapshot", str(vmid), by, work)


async def roll_back(rooms: Rooms, by: Identity, vmid: int, name: str, *, start: bool = False) -> Upid:
    """Take a VM back to a snapshot as a task: stopped if it runs; with kept memory it goes on, else `start` starts it.

    Raises NotFound, WrongState, Locked.
    """
    snapshots.check_rollback(await rooms.guests.get(vmid, "qemu"), name)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "rollback"):
            guest = await snapshots.roll_back(rooms, await rooms.guests.get(vmid, "qemu"), name, MEANS, task)
            snapshot = guest.snapshots[name]
            if snapshot.vmstate is not None:
                memory = Memory(VolumeId.parse(snapshot.vmstate), snapshot.machine)
                await power.start_locked(rooms, guest, task, memory)
                return
            if "vmgenid" in guest.config:
                # So a guest learns that it went back: what it drew by lot must not come a second time.
                guest = await rooms.guests.update(guest.with_config({**guest.config, "vmgenid": str(uuid.uuid4())}))
            if start:
                await power.start_locked(rooms, guest, task)
            else:
                await rooms.network.register(vmid, guest.name, ports(VmConfig.parse(guest.config)), "qemu")

    return await rooms.tasks.start("qmrollback", str(vmid), by, work)


async def delete_snapshot(rooms: Rooms, by: Identity, vmid: int, name: str, *, force: bool = False) -> Upid:
    """Delete a snapshot as a task; with `force` its record goes even when a volume's snapshot cannot be deleted.

    Raises NotFound, Locked.
    """
    _check_delete(await rooms.guests.get(vmid, "qemu"), name)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "snapshot-delete"):
            guest = await rooms.guests.get(vmid, "qemu")
            _check_delete(guest, name)
            await snapshots.delete(rooms, guest, name, MEANS, task, force=force)

    return await rooms.tasks.start("qmdelsnapshot", str(vmid), by, work)


async def feature(rooms: Rooms, guest: Guest, wanted: snapshots.Feature, name: str | None = None) -> bool:
    """Whether a snapshot, a linked clone or a full copy of the VM, or of its snapshot, can be made now.

    Raises NotFound for a snapshot that is not there.
    """
    config = guest.config if name is None else snapshots.find(guest, name).config
    try:
        if wanted == "snapshot":
            await _check_instant(rooms, guest)
        else:
            await disks_of(rooms, guest.vmid, config)
    except (NotSupported, NotFound):
        return False
    return await snapshots.feature(rooms, guest, wanted, name)


async def prepare(rooms: Rooms, guest: Guest, taking: Taking) -> Snapshot:
    """Take the snapshot of every volume, not whole yet; a restart of the daemon undoes it, as `taking.undo` does."""
    await check_new(rooms, guest, taking.name)
    running = rooms.vms.state(guest.vmid) is not GuestState.STOPPED
    facts = await _memory_facts(rooms, guest, taking.name) if taking.memory and running else {}
    guest = await snapshots.begin(rooms, guest, taking.name, taking.description, **facts)
    taking.undo.push_async_callback(snapshots.discard, rooms, guest.vmid, taking.name, MEANS, taking.task)
    snapshot = guest.snapshots[taking.name]
    if snapshot.vmstate is not None:
        await taking.held.record(snapshot.vmstate)
        await make_memory_volume(rooms, guest, VolumeId.parse(snapshot.vmstate))
    if running:
        await _take_running(rooms, guest, snapshot, taking.task)
    else:
        await snapshots.take_volumes(rooms, snapshot)
    taking.task.log(f"took snapshot '{taking.name}' of {len(snapshot.volumes)} volumes")
    return snapshot


async def _memory_facts(rooms: Rooms, guest: Guest, name: str) -> dict[str, Any]:
    """What the record of a snapshot with memory says beside the rest."""
    status = await rooms.vms.status(guest.vmid)
    return {
        "vmstate": str(await memory_volume(rooms, guest, name)),
        "machine": (status.machine if status is not None else None) or None,
        "cpu": cast(str | None, guest.config.get("cpu")),
    }


async def _take_running(rooms: Rooms, guest: Guest, snapshot: Snapshot, task: Task) -> None:
    """All disks at one point: qcow2 ones by QEMU itself, others by their storage while the virtual CPUs stand."""
    disks = await disks_of(rooms, guest.vmid, guest.config)
    inside = [disk.key for disk in disks if disk.form == "qcow2"]
    outside = [disk for disk in disks if disk.form != "qcow2"]

    async def take_disks() -> None:
        if inside:
            await rooms.vms.snapshot_disks(guest.vmid, snapshot.name, inside)
        for disk in outside:
            storage, volume = await rooms.storages.resolve(str(disk.volid))
            await cast(SnapshotStorage, storage).snapshot(volume, snapshot.name)

    if snapshot.vmstate is not None:
        volid = VolumeId.parse(snapshot.vmstate)
        task.log(f"saving the memory to '{volid}'")
        async with stillness.standing(rooms, guest):
            await save_memory(rooms, guest, volid, take_disks)
        await sync(rooms, volid)
        return
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stillness.frozen(rooms, guest, task))
        if outside and rooms.vms.state(guest.vmid) is GuestState.RUNNING:
            await stack.enter_async_context(stillness.standing(rooms, guest))
            await rooms.vms.pause(guest.vmid)
        await take_disks()


async def check_new(rooms: Rooms, guest: Guest, name: str) -> None:
    """Refuse a snapshot that cannot be taken now; raises as `take_snapshot` does."""
    await snapshots.check_new(rooms, guest, name)
    await _check_instant(rooms, guest)


async def _check_instant(rooms: Rooms, guest: Guest) -> None:
    """Raise NotSupported for a device of the host's, and for what would have to be copied while a VM stands still."""
    running = rooms.vms.state(guest.vmid) is not GuestState.STOPPED
    for disk in await disks_of(rooms, guest.vmid, guest.config):
        storage = await rooms.storages.get(disk.volid.storage)
        if running and disk.size > _SMALL and disk.form not in {"qcow2", *storage.capabilities.instant}:
            raise NotSupported(
                f"snapshot feature is not available while the VM runs: {disk.key} ({disk.form}) on storage "
                f"'{disk.volid.storage}' would be copied meanwhile; stop the VM, or move the disk to the format qcow2"
            )


def _check_delete(guest: Guest, name: str) -> None:
    if snapshots.find(guest, name).step is None:
        snapshots.check_unlocked(guest)


async def _halt(rooms: Rooms, guest: Guest, task: Task | None) -> None:
    if rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        if task is not None:
            task.log(f"stopping {guest.title}")
        await rooms.vms.stop(guest.vmid)
    await power.tidy_stopped(rooms, guest, task)


async def _forget(rooms: Rooms, guest: Guest, snapshot: Snapshot) -> list[str]:
    """Delete a snapshot: by QEMU of the qcow2 disks that a running VM has open, else by the storages."""
    open_now = {volume.file: key for key, volume in VmConfig.parse(guest.config).volumes()}
    if rooms.vms.state(guest.vmid) is GuestState.STOPPED:
        open_now = {}
    problems = []
    for text in snapshot.volumes:
        try:
            storage, volume = await rooms.storages.resolve(text)
            if text in open_now and (await storage.info(volume)).format == "qcow2":
                await rooms.vms.delete_disk_snapshot(guest.vmid, snapshot.name, open_now[text])
            else:
                problems += await snapshots.forget_volumes(
                    rooms, guest, replace(snapshot, volumes=(text,), vmstate=None)
                )
        except NotFound:
            continue
        except BastideError as error:
            problems.append(f"could not delete snapshot '{snapshot.name}' of volume '{text}': {error}")
    if snapshot.vmstate is not None:
        problems += await delete_volumes(rooms, [VolumeId.parse(snapshot.vmstate)])
    return problems


MEANS = snapshots.Means(halt=_halt, forget=_forget)
"""A VM's part in snapshots."""
