"""Changing a VM's configuration: at once where that is possible, else at its next start."""

import re
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from bastide.base.errors import Conflict, InvalidParameter, Locked
from bastide.base.ids import Upid, VolumeId
from bastide.host.password import hash_password
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations.interfaces import check_interfaces
from bastide.operations.pending import keep_unused, reverted, shown_value, with_changes
from bastide.operations.rooms import Rooms
from bastide.operations.snapshots import check_unheld
from bastide.operations.vm import hot
from bastide.operations.vm.identity import with_vmgenid
from bastide.operations.vm.ports import ports, with_hardware_addresses
from bastide.operations.vm.volumes import CLOUDINIT, make_disk, plan_disks, with_size
from bastide.operations.volumes import delete_volumes, owned_volumes, present_volumes, volumes_of
from bastide.tasks.tasks import Task

_HASHED = re.compile(r"\$[0-9a-z]+\$.+", re.ASCII)
_NOT_REMOVABLE = {"meta", "parent", "vmstate", "runningmachine"}


async def update_config(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    changes: VmOptions,
    *,
    delete: Iterable[str] = (),
    revert: Iterable[str] = (),
    digest: str | None = None,
    force: bool = False,
    task: Task | None = None,
) -> None:
    """Set, delete and revert options of a VM; `force` removes the volumes of deleted disks, which else become unused.

    Raises InvalidParameter naming each faulty key, Conflict when `digest` is of an older configuration, Locked.
    When it fails, nothing has changed and no new volume is left.
    """
    owner = task.upid if task is not None else f"{by}:config"
    async with rooms.locks.hold(vmid, owner, "config") as held, AsyncExitStack() as undo:
        guest = await rooms.guests.get(vmid, "qemu")
        _check_current(guest, digest)
        removed = _check_deletions(guest, delete, changes)
        check_unheld(guest, _going(guest, removed, force=force))
        before = VmConfig.parse(guest.wanted_config)
        changes = with_vmgenid(with_hardware_addresses(hashed_password(changes), before))
        await check_interfaces(rooms, ports(changes))
        config, disks = await plan_disks(rooms, vmid, changes, volumes_of(guest))
        rooms.vms.check(VmConfig.parse({**_without(guest.wanted_config, removed), **config.to_text()}))
        for disk in disks:
            await held.record(str(disk.volid))
        undo.push_async_callback(delete_volumes, rooms, [disk.volid for disk in disks])
        for disk in disks:
            made = await make_disk(rooms, disk, VmConfig.parse({**guest.config, **config.to_text()}), task)
            if made is not None:
                config = with_size(config, disk.key, made.size)
        owned = {str(volid) for volid in present_volumes(guest)} | {str(disk.volid) for disk in disks}
        changed = await _applied(rooms, reverted(guest, revert), config.to_text(), removed, undo)
        doomed = _doomed(guest, changed, removed, force=force)
        for volid in doomed:
            await held.record(volid)
        waiting = owned_volumes(changed.pending, vmid).values()
        kept = keep_unused(sorted(owned - set(doomed)), changed.config, vmid, waiting)
        changed = await rooms.guests.update(changed.with_config(kept))
        undo.pop_all()
        await delete_volumes(rooms, [VolumeId.parse(volid) for volid in doomed])
    await rooms.network.register(vmid, changed.name, ports(VmConfig.parse(changed.config)), "qemu")


async def update_config_task(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    changes: VmOptions,
    *,
    delete: Iterable[str] = (),
    revert: Iterable[str] = (),
    digest: str | None = None,
    force: bool = False,
) -> Upid:
    """The same as a task, for changes that take time. What is plainly wrong is refused before it begins."""
    guest = await rooms.guests.get(vmid, "qemu")
    _check_current(guest, digest)
    removed, undone = list(delete), list(revert)
    _check_deletions(guest, removed, changes)

    async def work(task: Task) -> None:
        await update_config(rooms, by, vmid, changes, delete=removed, revert=undone, force=force, task=task)

    return await rooms.tasks.start("qmconfig", str(vmid), by, work)


def shown_config(guest: Guest, *, current: bool = False) -> dict[str, Scalar]:
    """The configuration as `GET config` answers it: with pending values unless `current`, and the digest."""
    config = dict(guest.config) if current else guest.wanted_config
    return {**{key: shown_value(key, value) for key, value in config.items()}, "digest": guest.digest}


def hashed_password(options: VmOptions) -> VmOptions:
    """The options with the hash of the password for cloud-init in place of the password."""
    plain = options.cipassword
    if not plain or _HASHED.fullmatch(plain):
        return options
    return options.model_copy(update={"cipassword": hash_password(plain)})


def _check_current(guest: Guest, digest: str | None) -> None:
    if digest is not None and digest != guest.digest:
        raise Conflict("detected modified configuration - file changed by other user? Try again.")
    if guest.config.get("lock") in ("create", "destroyed", "suspending", "suspended"):
        raise Locked(f"VM is locked ({guest.config['lock']})")


def _check_deletions(guest: Guest, delete: Iterable[str], changes: VmOptions) -> list[str]:
    removed = list(dict.fromkeys(delete))
    known = {**guest.config, **guest.pending}
    given = changes.to_text()
    for key in removed:
        if key in _NOT_REMOVABLE:
            raise InvalidParameter({"delete": f"unable to delete required option '{key}'"})
        if not VmConfig.knows(key):
            raise InvalidParameter({"delete": f"unknown option '{key[:60]}'"})
        if key in given:
            raise InvalidParameter({"delete": f"you can't use '{key}' and -delete {key} at the same time"})
    return [key for key in removed if key in known]


def _without(config: Mapping[str, Scalar], removed: Iterable[str]) -> dict[str, Scalar]:
    gone = set(removed)
    return {key: value for key, value in config.items() if key not in gone}


def _going(guest: Guest, removed: list[str], *, force: bool) -> dict[str, str]:
    """{key: volume} of what deleting those keys removes for good."""
    owned = owned_volumes(guest.config, guest.vmid)
    return {key: owned[key] for key in removed if key in owned and (force or key.startswith("unused"))}


def _doomed(guest: Guest, changed: Guest, removed: list[str], *, force: bool) -> list[str]:
    """The volumes to remove: unused ones and configuration drives that were deleted, all deleted ones with `force`.

    A configuration drive that only waited and is not wanted any more goes, too: all that it holds is made anew.
    """
    before = owned_volumes(guest.config, guest.vmid)
    still = {*owned_volumes(changed.config, guest.vmid).values(), *owned_volumes(changed.pending, guest.vmid).values()}
    waited = set(owned_volumes(guest.pending, guest.vmid).values()) - still - set(before.values())
    return [volume for volume in sorted(waited) if CLOUDINIT.search(volume)] + [
        volume
        for key, volume in before.items()
        if key in removed and volume not in still and (force or key.startswith("unused") or CLOUDINIT.search(volume))
    ]


async def _applied(
    rooms: Rooms, guest: Guest, values: Mapping[str, Scalar], removed: list[str], undo: AsyncExitStack
) -> Guest:
    """The record with the changes: in `config` what takes effect now, in `pending` what must wait."""
    if rooms.vms.state(guest.vmid) is GuestState.STOPPED:
        return with_changes(guest, values, removed, {*values, *removed})
    return with_changes(guest, values, removed, await hot.apply(rooms, guest, values, removed, undo))
