"""What restores of both kinds of guest have in common: the wish, and the guest that is replaced.

`ct/restore.py` and `vm/restore.py` tell how the new volumes are made. The guest that was there keeps its record and its
volumes until they are whole.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bastide.base.errors import AlreadyExists, Conflict, NotFound, WrongState
from bastide.base.ids import VolumeId
from bastide.model.guest import Guest, GuestState, Kind
from bastide.model.record import Scalar
from bastide.operations import snapshots
from bastide.operations.destroy import refuse_base
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes, volumes_of
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task


async def anything(_options: Any) -> None:
    """Permits every configuration."""


@dataclass(frozen=True, slots=True)
class Restore:
    """How a backup is to be restored.

    `storage` gets every volume whose place the options do not tell, None for the kind's own rule. `force` replaces a
    guest of that vmid. With `unique` the guest gets hardware addresses of its own. `limit` in KiB a second. With
    `ignore_errors` a container may lack files that could not be unpacked. With `live` a VM runs while it is restored.
    `permit` is asked about the options that backup and caller together make, before anything is made; it may raise
    PermissionDenied.
    """

    storage: str | None = None
    force: bool = False
    unique: bool = False
    limit: float | None = None
    pool: str | None = None
    start: bool = False
    ignore_errors: bool = False
    live: bool = False
    permit: Callable[[Any], Awaitable[None]] = anything


async def replaced_guest(rooms: Rooms, vmid: int, kind: Kind, *, force: bool) -> Guest | None:
    """The guest that a restore with `force` would replace; None where the vmid is free.

    Raises AlreadyExists; WrongState when it runs, is protected or has linked clones; Locked.
    """
    try:
        guest = await rooms.guests.get(vmid)
    except NotFound:
        return None
    what = f"unable to restore {'CT' if kind == 'lxc' else 'VM'} {vmid}"
    if guest.kind != kind or not force:
        raise AlreadyExists(f"{what} - {guest.title} already exists on node '{rooms.node}'")
    if rooms.engine(guest).state(vmid) is not GuestState.STOPPED:
        raise WrongState("can't overwrite running container" if kind == "lxc" else f"{what} - vm is running")
    if guest.config.get("protection"):
        raise WrongState(f"{what} - protection mode enabled")
    snapshots.check_unlocked(guest)
    await refuse_base(rooms, guest)
    return guest


async def still_replaced(rooms: Rooms, guest: Guest) -> Guest:
    """The guest's record now that its lock is held. Raises what `replaced_guest` does, Conflict when it changed."""
    present = await replaced_guest(rooms, guest.vmid, guest.kind, force=True)
    if present is None or present.revision != guest.revision:
        raise Conflict(f"{guest.title} has been changed since its restore was asked for. Try again.")
    return present


async def change_over(
    rooms: Rooms,
    held: HeldLock,
    before: Guest,
    config: Mapping[str, Scalar],
    task: Task,
    *,
    first_id: int | None,
    kept: Collection[VolumeId] = (),
) -> Guest:
    """Give a guest its restored configuration in one step; then its old volumes, all but `kept`, and snapshots go.

    `held` is its lock, which names the new volumes already. A restart after the step carries on with it.
    """
    doomed = [volid for volid in volumes_of(before) if volid not in kept]
    for volid in doomed:
        await held.record(str(volid))
    if before.snapshots:
        task.warn(f"the snapshots of {before.title} go with its old volumes: {', '.join(before.snapshots)}")
    restored = replace(before, config=dict(config), pending={}, removed=(), snapshots={}, first_id=first_id)
    guest = await rooms.guests.update(restored)
    for problem in await delete_volumes(rooms, doomed):
        task.warn(problem)
    task.log(f"removed the old volumes of {guest.title}") if doomed else None
    return guest
