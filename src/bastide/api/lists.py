"""What several branches share: which rows a caller may see, guests by name, how tasks and indexes are shown."""

from collections.abc import Iterable
from typing import Any

from bastide.access.authority import denied
from bastide.api import version
from bastide.api.routing import Call
from bastide.model.guest import Guest
from bastide.model.task import TaskRecord
from bastide.operations import resources
from bastide.operations.pools import Pool, list_pools
from bastide.storage.protocol import Storage


def index(key: str, *names: str) -> list[dict[str, str]]:
    """The rows of an index: `[{key: name}, ...]`."""
    return [{key: name} for name in names]


async def guests_seen(call: Call) -> list[Guest]:
    """The guests on which the caller has VM.Audit."""
    guests = await call.rooms.guests.list()
    if call.is_root:
        return guests
    authority = await call.access.authority()
    return [guest for guest in guests if authority.allows(call.identity, f"/vms/{guest.vmid}", ("VM.Audit",))]


async def find_guest(call: Call, name: str) -> Guest:
    """A guest by its vmid or its name. Raises NotFound, InvalidParameter, PermissionDenied.

    Whoever has no privilege on a guest learns neither that it is there nor which vmid a name stands for.
    """
    authority = await call.access.authority()

    def known(vmid: int) -> bool:
        return bool(authority.permissions(call.identity, f"/vms/{vmid}"))

    if name.isascii() and name.isdigit() and not known(int(name)):
        raise denied(f"/vms/{int(name)}", ("VM.Audit",))
    return await call.rooms.guests.find(name, known)


async def storages_seen(call: Call) -> list[Storage]:
    """The storages on which the caller has Datastore.Audit or Datastore.AllocateSpace."""
    return [
        storage
        for storage in await call.rooms.storages.all()
        if await call.may(
            f"/storage/{storage.config.storage}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True
        )
    ]


async def node_seen(call: Call) -> dict[str, Any]:
    """The node's row, in `/nodes` and among the resources; figures only with Sys.Audit on the node."""
    row = resources.node_row(call.rooms, version.manager_version(call))
    if not await call.may(f"/nodes/{call.rooms.node}", "Sys.Audit"):
        row = {key: row[key] for key in ("id", "type", "node", "status", "level")}
    return row


async def pools_seen(call: Call) -> list[Pool]:
    """The pools on which the caller has Pool.Audit."""
    return [pool for pool in await list_pools(call.rooms) if await call.may(f"/pool/{pool.poolid}", "Pool.Audit")]


def task_rows(records: Iterable[TaskRecord]) -> list[dict[str, Any]]:
    """Tasks as lists show them; the token's name lies beside the user."""
    return [task_row(record) for record in records]


def task_row(record: TaskRecord) -> dict[str, Any]:
    """One task; `endtime` and `status` only once it has ended."""
    upid = record.upid
    user, _, token = upid.user.partition("!")
    row: dict[str, Any] = {
        "upid": str(upid),
        "node": upid.node,
        "pid": upid.pid,
        "pstart": upid.pstart,
        "starttime": upid.starttime,
        "type": upid.type,
        "id": upid.id,
        "user": user,
    }
    if token:
        row["tokenid"] = token
    if not record.running:
        row |= {"endtime": record.endtime, "status": record.exitstatus}
    return row
