"""`/pools`: named sets of guests and storages. The methods with the pool in the path are deprecated, and kept."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.lists import pools_seen
from bastide.api.routing import Branch, Call
from bastide.api.shapes_access import PoolInfo, PoolRow
from bastide.base.errors import InvalidParameter, NotFound
from bastide.model.record import Multiline, Record
from bastide.model.types import PoolId, split_list
from bastide.operations import pools, resources
from bastide.operations.pools import Pool

Comment = Annotated[str | None, Field(max_length=4096), Multiline()]
MemberType = Literal["qemu", "lxc", "storage"]
_ALLOCATE = ("perm", "/pool/{poolid}", ("Pool.Allocate",))

branch = Branch("/pools")


class PoolsQuery(Record):
    """One pool, and which kind of its members."""

    poolid: PoolId | None = None
    type: MemberType | None = None


class PoolCreate(Record):
    """A new pool."""

    poolid: PoolId
    comment: Comment = None


class PoolPath(Record):
    """A pool."""

    poolid: PoolId


class PoolQuery(PoolPath):
    """A pool, and which kind of its members."""

    type: MemberType | None = None


class PoolChange(PoolPath):
    """Members to add, or with `delete` to take out."""

    allow_move: Annotated[bool | None, Field(alias="allow-move")] = None
    comment: Comment = None
    delete: bool | None = None
    storage: Annotated[str | None, Field(max_length=8192)] = None
    vms: Annotated[str | None, Field(pattern=r"^[0-9,;\s]*$", max_length=65536)] = None


@branch.get("", PoolsQuery, user="all", answer=list[PoolRow])
async def list_pools(call: Call, p: PoolsQuery) -> list[dict[str, Any]]:
    """The pools that the caller may see, or one with its members."""
    if p.type is not None and p.poolid is None:
        raise InvalidParameter({"type": "missing property - 'poolid' is required by 'type'"})
    if p.poolid is not None:
        await call.require(f"/pool/{p.poolid}", "Pool.Audit")
        pool = await pools.get_pool(call.rooms, p.poolid)
        return [{**_row(pool), "members": await _members(call, pool, p.type)}]
    return [_row(pool) for pool in await pools_seen(call)]


@branch.post("", PoolCreate, check=_ALLOCATE)
async def create_pool(call: Call, p: PoolCreate) -> None:
    """Make an empty pool."""
    await pools.create_pool(call.rooms, p.poolid, p.comment)


@branch.put("", PoolChange, check=_ALLOCATE)
async def update_pool(call: Call, p: PoolChange) -> None:
    """Change a pool's comment or members."""
    await _update(call, p)


@branch.delete("", PoolPath, check=_ALLOCATE)
async def delete_pool(call: Call, p: PoolPath) -> None:
    """Remove an empty pool."""
    await pools.delete_pool(call.rooms, p.poolid)


@branch.get("/{poolid}", PoolQuery, check=("perm", "/pool/{poolid}", ("Pool.Audit",)), answer=PoolInfo)
async def read_pool(call: Call, p: PoolQuery) -> dict[str, Any]:
    """A pool's comment and members. Deprecated: `GET /pools/?poolid=`."""
    pool = await pools.get_pool(call.rooms, p.poolid)
    row = {"members": await _members(call, pool, p.type)}
    return row if pool.comment is None else {**row, "comment": pool.comment}


@branch.put("/{poolid}", PoolChange, check=_ALLOCATE)
async def update_named_pool(call: Call, p: PoolChange) -> None:
    """Change a pool's comment or members. Deprecated: `PUT /pools`."""
    await _update(call, p)


@branch.delete("/{poolid}", PoolPath, check=_ALLOCATE)
async def delete_named_pool(call: Call, p: PoolPath) -> None:
    """Remove an empty pool. Deprecated: `DELETE /pools`."""
    await pools.delete_pool(call.rooms, p.poolid)


def _row(pool: Pool) -> dict[str, Any]:
    row: dict[str, Any] = {"poolid": pool.poolid}
    return row if pool.comment is None else {**row, "comment": pool.comment}


async def _update(call: Call, p: PoolChange) -> None:
    vmids = _vmids(p.vms or "")
    storages = split_list(p.storage or "")
    pool = await pools.get_pool(call.rooms, p.poolid)
    for vmid in vmids:
        if not await call.may(f"/vms/{vmid}", "VM.Allocate"):
            await call.require(f"/vms/{vmid}", "Permissions.Modify")
    for storage in storages:
        await call.require(f"/storage/{storage}", "Datastore.Allocate")
    for other in await pools.list_pools(call.rooms) if p.allow_move else ():
        if other.guests.intersection(vmids) and other.poolid != pool.poolid:  # it loses them
            await call.require(f"/pool/{other.poolid}", "Pool.Allocate")
    await pools.update_pool(
        call.rooms,
        pool.poolid,
        comment=p.comment,
        guests=vmids,
        storages=storages,
        remove=bool(p.delete),
        allow_move=bool(p.allow_move),
    )


def _vmids(text: str) -> list[int]:
    try:
        vmids = [int(part) for part in split_list(text)]
    except ValueError:
        raise InvalidParameter({"vms": "not a list of VMIDs"}) from None
    if any(not 100 <= vmid <= 999_999_999 for vmid in vmids):
        raise InvalidParameter({"vms": "a VMID is a number from 100 to 999999999"})
    return vmids


async def _members(call: Call, pool: Pool, kind: MemberType | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if kind != "storage":
        guests = [guest for guest in await call.rooms.guests.list() if guest.vmid in pool.guests]
        rows += [row for row in await resources.guest_rows(call.rooms, guests) if kind in (None, row["type"])]
    if kind in (None, "storage"):
        for name in sorted(pool.storages):
            try:
                rows.append(await resources.storage_row(call.rooms, await call.rooms.storages.get(name)))
            except NotFound:  # a member that has been removed since
                continue
    return rows
