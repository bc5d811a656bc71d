"""What a guest that is made and one that is restored have in common, of either kind."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from bastide.api.backup_permissions import open_backup
from bastide.api.fields import GuestPath
from bastide.api.guest_permissions import Place
from bastide.api.routing import Call, NotBuilt
from bastide.base.errors import named_by
from bastide.model.types import PoolId, StorageId
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.restoring import Restore
from bastide.operations.pools import get_pool

MAKING = ("or", ("perm", "/vms/{vmid}", ("VM.Allocate",)), ("perm", "/pool/{pool}", ("VM.Allocate",)))
"""What making a guest needs, as far as a check can say it."""


class NewGuest(GuestPath):
    """Where a new guest goes. `force` and `unique` are for one that is restored."""

    storage: StorageId | None = None
    pool: PoolId | None = None
    start: bool | None = None
    force: bool | None = None
    ha_managed: Annotated[bool | None, Field(alias="ha-managed"), NotBuilt()] = None
    unique: bool | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a guest that is restored, the backup that it is restored from, and whether it replaces one."""

    place: Place
    archive: Archive
    replaces: bool


async def open_source(call: Call, p: NewGuest, key: str, volid: str) -> Source:
    """What a guest is restored from, which the parameter `key` names.

    VM.Backup on a guest is enough to replace it. What allows to make guests in a pool allows to replace none. Raises
    PermissionDenied, InvalidParameter naming `key`.
    """
    there = await call.rooms.store.get(f"guest/{p.vmid}") is not None
    place = Place(call, p.vmid, None if there else p.pool)
    if not (there and p.force and await call.may(f"/vms/{p.vmid}", "VM.Backup")):
        await place.require("VM.Allocate")
    if there and p.pool is not None:
        await call.require(f"/pool/{p.pool}", "VM.Allocate")
    # One that comes meanwhile is not replaced: nobody has asked whether the caller may.
    return Source(place, await open_backup(call, key, volid, p.vmid), there and bool(p.force))


async def wish(
    call: Call, p: NewGuest, source: Source, permit: Callable[[Any], Awaitable[None]], limit: float | None, **own: bool
) -> Restore:
    """How a backup is to be restored; see Restore for what is a kind's `own`.

    Raises InvalidParameter naming `pool` or `storage` when it is not there.
    """
    if p.pool is not None:
        with named_by("pool"):
            await get_pool(call.rooms, p.pool)
    if p.storage is not None:
        with named_by("storage"):
            await call.rooms.storages.get(p.storage)
    return Restore(
        storage=p.storage,
        force=source.replaces,
        unique=bool(p.unique),
        limit=limit,
        pool=p.pool,
        start=bool(p.start),
        permit=permit,
        **own,
    )
