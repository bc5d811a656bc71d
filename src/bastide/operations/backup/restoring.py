"""What restores of both kinds of guest have in common: the wish, and the guest that is replaced.

That one keeps its record and its volumes until the new volumes are whole. The record then changes over in one step, and
what it does not name any more goes: the new volumes when the step was not reached, else the old ones. The guest's lock
names both, so that a restart does the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from bastide.base.errors import AlreadyExists, Conflict, NotFound, WrongState
from bastide.base.ids import VolumeId
from bastide.host.run import finished
from bastide.model.guest import Guest, GuestState, Kind
from bastide.model.record import Scalar
from bastide.operations import snapshots
from bastide.operations.destroy import refuse_base
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes, volumes_of
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


def involved_volumes(new: Sequence[VolumeId], before: Guest | None) -> list[str]:
    """What the lock of a guest that is restored takes down: the volumes to make, and those that will go."""
    return [str(volid) for volid in [*new, *(volumes_of(before) if before is not None else [])]]


@asynccontextmanager
async def replacing(rooms: Rooms, task: Task, before: Guest, new: Sequence[VolumeId]) -> AsyncIterator[Guest]:
    """While entered, volumes are made beside a guest's; in the end those go that its record does not name then.

    `task` holds its lock, which names the `involved_volumes`. Yields its present record. Raises what `replaced_guest`
    does, Conflict when the guest has changed.
    """
    present = await replaced_guest(rooms, before.vmid, before.kind, force=True)
    if present is None or present.revision != before.revision:
        raise Conflict(f"{before.title} has been changed since its restore was asked for. Try again.")
    if present.snapshots:
        task.warn(f"the snapshots of {before.title} go with its old volumes: {', '.join(present.snapshots)}")
    try:
        yield present
    finally:
        await finished(_free(rooms, present, new, task))


async def change_over(
    rooms: Rooms, present: Guest, config: Mapping[str, Scalar], *, first_id: int | None = None
) -> Guest:
    """Give a guest its restored configuration in one step: it has nothing of what it was. Raises Conflict."""
    restored = replace(present, config=dict(config), pending={}, removed=(), snapshots={}, first_id=first_id)
    writing = asyncio.ensure_future(rooms.guests.update(restored))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        # Which of the volumes are the guest's is known when it has been written, or not.
        await asyncio.wait([writing])
        raise


async def _free(rooms: Rooms, before: Guest, new: Sequence[VolumeId], task: Task) -> None:
    present = await rooms.guests.get(before.vmid)
    if present.config.get("lock") == "create":
        # A VM that was restored while it ran could not be ended: the next daemon puts back the one that was there.
        task.warn(f"{before.title} is not back yet: it comes back with its volumes when the daemon starts again")
        return
    used = volumes_of(present)
    doomed = [volid for volid in [*new, *volumes_of(before)] if volid not in used]
    for problem in await delete_volumes(rooms, doomed):
        task.warn(problem)
    task.log(f"removed {', '.join(str(volid) for volid in doomed)}") if doomed else None
