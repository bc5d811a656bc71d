"""Pools: named sets of guests and storages, stored under `pool/<id>`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bastide.base.errors import AlreadyExists, Conflict, NotFound, WrongState
from bastide.operations.rooms import Rooms
from bastide.state.store import ABSENT


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool's members. A guest is in one pool at most."""

    poolid: str
    comment: str | None = None
    guests: frozenset[int] = frozenset()
    storages: frozenset[str] = frozenset()
    revision: int = 0


def _to_json(pool: Pool) -> str:
    return json.dumps({"comment": pool.comment, "guests": sorted(pool.guests), "storages": sorted(pool.storages)})


def _from_json(key: str, text: str, revision: int) -> Pool:
    raw = json.loads(text)
    return Pool(
        key.removeprefix("pool/"), raw["comment"], frozenset(raw["guests"]), frozenset(raw["storages"]), revision
    )


async def list_pools(rooms: Rooms) -> list[Pool]:
    """All pools in the order of their ids."""
    return [_from_json(entry.key, entry.value, entry.revision) for entry in await rooms.store.list("pool/")]


async def get_pool(rooms: Rooms, poolid: str) -> Pool:
    """One pool. Raises NotFound."""
    entry = await rooms.store.get(f"pool/{poolid}")
    if entry is None:
        raise NotFound(f"pool '{poolid}' does not exist")
    return _from_json(entry.key, entry.value, entry.revision)


async def create_pool(rooms: Rooms, poolid: str, comment: str | None) -> None:
    """Make an empty pool. Raises AlreadyExists, or NotFound when the parent of a nested pool is missing."""
    parent = poolid.rpartition("/")[0]
    if parent:
        await get_pool(rooms, parent)
    try:
        await rooms.store.put(f"pool/{poolid}", _to_json(Pool(poolid, comment)), ABSENT)
    except Conflict:
        raise AlreadyExists(f"pool '{poolid}' already exists") from None


async def delete_pool(rooms: Rooms, poolid: str) -> None:
    """Remove an empty pool. Raises WrongState when it has members or pools below it."""
    pool = await get_pool(rooms, poolid)
    if pool.guests or pool.storages or await rooms.store.list(f"pool/{poolid}/"):
        raise WrongState(f"pool '{poolid}' is not empty")
    await rooms.store.delete(f"pool/{poolid}", pool.revision)
    # A later pool of the same name must not inherit the rights on this one.
    await rooms.access.grants.forget(path=f"/pool/{poolid}")


async def update_pool(
    rooms: Rooms,
    poolid: str,
    *,
    comment: str | None = None,
    guests: Iterable[int] = (),
    storages: Iterable[str] = (),
    remove: bool = False,
    allow_move: bool = False,
) -> None:
    """Change the comment, add members, or take them out with `remove`.

    Raises NotFound for a member that does not exist, AlreadyExists or WrongState for one in the wrong place.
    """
    pool = await get_pool(rooms, poolid)
    guests, storages = frozenset(guests), frozenset(storages)
    if remove:
        absent = [str(one) for one in (guests - pool.guests) | (storages - pool.storages)]
        if absent:
            raise NotFound(f"pool '{poolid}': no such member {', '.join(sorted(absent))}")
        pool = replace(pool, guests=pool.guests - guests, storages=pool.storages - storages)
    else:
        for vmid in guests:
            await rooms.guests.get(vmid)
        for storage in storages:
            await rooms.storages.get(storage)
        await _leave_other_pools(rooms, pool, guests, allow_move=allow_move)
        pool = replace(pool, guests=pool.guests | guests, storages=pool.storages | storages)
    if comment is not None:
        pool = replace(pool, comment=comment)
    await rooms.store.put(f"pool/{poolid}", _to_json(pool), pool.revision)


async def forget_guest(rooms: Rooms, vmid: int) -> None:
    """Take a guest that is gone out of its pool."""
    for pool in await list_pools(rooms):
        if vmid in pool.guests:
            await rooms.store.put(
                f"pool/{pool.poolid}", _to_json(replace(pool, guests=pool.guests - {vmid})), pool.revision
            )


async def _leave_other_pools(rooms: Rooms, pool: Pool, guests: frozenset[int], *, allow_move: bool) -> None:
    for other in await list_pools(rooms):
        shared = other.guests & guests
        if other.poolid == pool.poolid or not shared:
            continue
        if not allow_move:
            raise WrongState(f"VM {min(shared)} belongs already to pool '{other.poolid}' and allow-move is not set")
        await rooms.store.put(
            f"pool/{other.poolid}", _to_json(replace(other, guests=other.guests - guests)), other.revision
        )
