"""A VM comes back from a backup: as a new one, or in the place of the one that is there."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import replace

from bastide.base.errors import BastideError, InvalidParameter, NotSupported
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest
from bastide.model.vm import VmOptions
from bastide.operations import pools, snapshots
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.restoring import (
    Restore,
    change_over,
    involved_volumes,
    replaced_guest,
    replacing,
)
from bastide.operations.interfaces import check_interfaces
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit, live_restore, power, template
from bastide.operations.vm.create import choose_uid, discard
from bastide.operations.vm.ports import ports
from bastide.operations.vm.restore_data import Restoring, fill, read_contents
from bastide.operations.vm.restore_plan import Plan, plan_restore
from bastide.tasks.tasks import Task


async def restore_vm(  # noqa: PLR0917 - who, which, from what, how: a container's restore has the same
    rooms: Rooms, by: Identity, vmid: int, archive: Archive, options: VmOptions, wish: Restore
) -> Upid:
    """Make a VM of a backup as a task; `options`, which name no disks, are in place of the backup's.

    What can be refused is refused before the task begins: InvalidParameter, NotFound, AlreadyExists for a vmid that is
    taken (unless `force`), WrongState, Locked, NotSupported, HostFailure for what is no VM's backup, and what
    `wish.permit` raises. Whatever fails then, or a crash, leaves nothing of a new VM, and one that was there as it was.
    """
    _check_asked(archive, options, wish)
    if wish.pool is not None:
        await pools.get_pool(rooms, wish.pool)
    before = await replaced_guest(rooms, vmid, "qemu", force=wish.force)
    plan = await plan_restore(rooms, vmid, await read_contents(archive), options, wish, before=before)
    if wish.live:
        live_restore.check(plan)
    guest = await _reserve(rooms, vmid, plan) if before is None else None

    async def work(task: Task) -> None:
        action, volumes = "create" if before is None else "restore", involved_volumes(plan.volumes, before)
        async with rooms.locks.hold(vmid, task.upid, action, volumes=volumes):
            restoring = Restoring(archive, plan, wish, task)
            if guest is not None:
                restored = await _restore_new(rooms, guest, restoring)
            elif before is not None:
                restored = await _restore_over(rooms, before, restoring)
            await _finish(rooms, restored, restoring)

    try:
        return await rooms.tasks.start("qmrestore", str(vmid), by, work)
    except BaseException:
        if guest is not None:
            await rooms.guests.delete(vmid)
        raise


def _check_asked(archive: Archive, options: VmOptions, wish: Restore) -> None:
    if archive.name.kind != "qemu":
        raise InvalidParameter({"archive": f"'{archive.volid[:200]}' is a container's backup"})
    drives = [key for key, _ in options.volumes()] + [f"unused{index}" for index in options.unused]
    if drives:
        raise InvalidParameter(dict.fromkeys(drives, "option conflicts with option 'archive'"))
    if wish.live and not archive.random_access:
        raise NotSupported(
            f"live-restore is not possible from '{archive.volid[:200]}', a stream that is read from its beginning: "
            "it needs a backup on a storage whose backups can be read at any place (type borg)"
        )


async def _reserve(rooms: Rooms, vmid: int, plan: Plan) -> Guest:
    async with rooms.guests.numbering:
        config = {**plan.config.to_text(), "lock": "create"}
        uid = await choose_uid(rooms, vmid)
        return await rooms.guests.create(Guest(vmid=vmid, kind="qemu", node=rooms.node, config=config, first_id=uid))


async def _restore_new(rooms: Rooms, guest: Guest, work: Restoring) -> Guest:
    """Fill a VM that is only reserved."""
    async with AsyncExitStack() as undo:
        undo.push_async_callback(discard, rooms, guest, work.plan.volumes, work.task)
        await _tell(rooms, work)
        for key in work.plan.left_out:
            work.task.warn(f"{key}: the backup does not hold this disk: the VM comes back without it")
        if work.wish.pool is not None:
            await pools.update_pool(rooms, work.wish.pool, guests=[guest.vmid])
        config = await (live_restore.run(rooms, guest, work) if work.wish.live else fill(rooms, work))
        present = await rooms.guests.get(guest.vmid)
        restored = await rooms.guests.update(present.with_config(config.to_text()))
        undo.pop_all()
    return restored


async def _restore_over(rooms: Rooms, before: Guest, work: Restoring) -> Guest:
    """Make the new volumes beside those of a VM that is there, and change over."""
    async with replacing(rooms, work.task, before, work.plan.volumes) as present:
        await _tell(rooms, work)
        kept = _kept(present, work.plan)
        if work.wish.live:
            guest = await live_restore.run_over(rooms, present, work, kept)
        else:
            config = await fill(rooms, work)
            texts = keep_unused(map(str, kept), config.to_text(), present.vmid)
            guest = await change_over(rooms, present, texts, first_id=present.first_id)
        await _forget_snapshots(rooms, present, guest, kept, work.task)
    if work.wish.pool is not None:
        await pools.update_pool(rooms, work.wish.pool, guests=[guest.vmid])
    return guest


def _kept(before: Guest, plan: Plan) -> list[VolumeId]:
    """The volumes of the VM that was there which stay, unused: those in whose place no disk of the backup comes."""
    restored = {disk.key for disk in plan.disks}
    kept: dict[VolumeId, None] = {}
    for config in (before.config, before.pending, *(snapshot.config for snapshot in before.snapshots.values())):
        named = snapshots.volumes_in(config, before.vmid)
        kept |= {volid: None for key, volid in named.items() if key not in restored and key != "vmstate"}
    unused = [VolumeId.parse(str(value)) for key, value in before.config.items() if key.startswith("unused")]
    return list(kept | dict.fromkeys(unused))


async def _forget_snapshots(rooms: Rooms, before: Guest, guest: Guest, kept: Collection[VolumeId], task: Task) -> None:
    """Say which volumes stay, and free them of snapshots that no record names any more."""
    names = {str(volid) for volid in kept}
    for name in sorted(names):
        task.warn(f"'{name}' is not in the backup: it stays as an unused disk")
    for snapshot in before.snapshots.values():
        part = replace(snapshot, volumes=tuple(name for name in snapshot.volumes if name in names), vmstate=None)
        for problem in await snapshots.forget_volumes(rooms, guest, part):
            task.warn(problem)


async def _tell(rooms: Rooms, work: Restoring) -> None:
    """Say what is left out, and what of the backup this host cannot do: it can be changed before the start."""
    task, config = work.task, work.plan.config
    task.log(f"restoring '{work.archive.volid}'")
    for warning in work.plan.warnings:
        task.warn(warning)
    errors: dict[str, str] = {}
    try:
        rooms.vms.check(config)
    except InvalidParameter as error:
        errors |= error.errors
    try:
        await check_interfaces(rooms, ports(config))
    except InvalidParameter as error:
        errors |= error.errors
    for key, why in errors.items():
        task.warn(f"the VM cannot start here as it is: {key}: {why}")


async def _finish(rooms: Rooms, guest: Guest, work: Restoring) -> None:
    """What follows when the VM is whole: what fails then does not take it away."""
    try:
        if not work.wish.live:
            await cloudinit.write_drive(rooms, guest)
        if work.plan.template:
            await template.make_template_locked(rooms, guest, work.task)
        elif work.wish.start and not work.wish.live:
            await power.start_locked(rooms, guest, work.task)
    except BastideError as error:
        work.task.warn(f"{guest.title} is restored, but: {error}")
