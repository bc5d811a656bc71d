"""Which guests a backup is of."""

from collections.abc import Awaitable, Callable, Sequence

from bastide.base.errors import PermissionDenied, named_by
from bastide.model.backup_options import BackupOptions
from bastide.model.guest import Guest
from bastide.operations import pools
from bastide.operations.rooms import Rooms
from bastide.operations.temporary import temporary

Permit = Callable[[int], Awaitable[bool]]
"""Whether the caller may back up the guest of a vmid."""


async def anybody(_vmid: int) -> bool:
    """Permits every guest."""
    return True


async def chosen(rooms: Rooms, options: BackupOptions) -> list[Guest]:
    """The guests that the options mean and that are there, in the order of their ids. Raises NotFound for a pool."""
    wanted: frozenset[int] | None = frozenset(options.vmids)
    if options.pool is not None:
        wanted = await _members(rooms, options.pool)
    elif options.every:
        wanted = None
    left_out = options.excluded | (await temporary(rooms) if wanted is None else frozenset())
    return [
        guest
        for guest in sorted(await rooms.guests.list(), key=lambda guest: guest.vmid)
        if (wanted is None or guest.vmid in wanted) and guest.vmid not in left_out
    ]


async def check_pool(rooms: Rooms, options: BackupOptions) -> None:
    """Raise InvalidParameter naming `pool` when it is not there."""
    if options.pool is None:
        return
    with named_by("pool"):
        await pools.get_pool(rooms, options.pool)


async def permitted(rooms: Rooms, options: BackupOptions, permit: Permit) -> tuple[Sequence[Guest], Sequence[int]]:
    """The guests to back up, and the ids of named ones that are not there.

    Of all guests those are left out that the caller may not back up; else that is PermissionDenied. Raises
    InvalidParameter naming `pool`.
    """
    await check_pool(rooms, options)
    guests = await chosen(rooms, options)
    allowed = {vmid: await permit(vmid) for vmid in {*(guest.vmid for guest in guests), *options.vmids}}
    refused = sorted(vmid for vmid, may in allowed.items() if not may)
    if refused and not options.every:
        raise PermissionDenied(f"Permission check failed (/vms/{refused[0]}, VM.Backup)")
    there = {guest.vmid for guest in guests}
    return [guest for guest in guests if allowed[guest.vmid]], sorted(set(options.vmids) - there)


async def _members(rooms: Rooms, poolid: str) -> frozenset[int]:
    """The guests in a pool and in those below it."""
    await pools.get_pool(rooms, poolid)
    return frozenset(
        vmid
        for pool in await pools.list_pools(rooms)
        if pool.poolid == poolid or pool.poolid.startswith(f"{poolid}/")
        for vmid in pool.guests
    )
