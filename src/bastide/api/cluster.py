"""`/cluster`: what is seen across all nodes, of which there is one."""

import asyncio
from typing import Any, Literal

from bastide.api.lists import guests_seen, index, node_seen, pools_seen, storages_seen, task_rows
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_guests import ClusterResource
from bastide.api.shapes_nodes import ClusterTaskRow
from bastide.base.errors import InvalidParameter, NotFound
from bastide.model.record import Record
from bastide.model.types import Vmid
from bastide.operations import resources
from bastide.tasks.filters import TaskFilter

_RECENT_TASKS = 25

branch = Branch("/cluster")


class ResourcesQuery(Record):
    """Which kind of resource."""

    type: Literal["vm", "storage", "node", "sdn"] | None = None


class NextIdQuery(Record):
    """A vmid to ask for."""

    vmid: Vmid | None = None


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Cluster index."""
    return index("name", "backup", "backup-info", "jobs", "log", "resources", "nextid", "status", "tasks", "options")


@branch.get("/resources", ResourcesQuery, user="all", answer=list[ClusterResource])
async def read_resources(call: Call, p: ResourcesQuery) -> list[dict[str, Any]]:
    """Guests, storages, pools and nodes that the caller may see, with their latest figures.

    Of a node everybody sees that it is there; its figures take Sys.Audit on it.
    """
    rows: list[dict[str, Any]] = []
    if p.type in (None, "vm"):
        rows += await resources.guest_rows(call.rooms, await guests_seen(call))
    if p.type in (None, "node"):
        rows.append(await node_seen(call))
    if p.type in (None, "storage"):
        seen = await storages_seen(call)
        rows += await asyncio.gather(*(resources.storage_row(call.rooms, storage) for storage in seen))
    if p.type is None:
        rows += [{"id": f"/pool/{pool.poolid}", "type": "pool", "pool": pool.poolid} for pool in await pools_seen(call)]
    if p.type in (None, "sdn") and await call.may("/sdn/zones/localnetwork", "SDN.Audit"):
        rows.append(
            {
                "id": f"sdn/{call.rooms.node}/localnetwork",
                "type": "sdn",
                "sdn": "localnetwork",
                "node": call.rooms.node,
                "status": "ok",
            }
        )
    return rows


@branch.get("/nextid", NextIdQuery, user="all")
async def read_next_id(call: Call, p: NextIdQuery) -> str:
    """The next free VMID; with `vmid`, that one if it is free."""
    if p.vmid is None:
        return str(await call.rooms.guests.next_vmid())
    try:
        if p.vmid not in call.rooms.guests.unreadable():
            await call.rooms.guests.get(p.vmid)
    except NotFound:
        return str(p.vmid)
    raise InvalidParameter({"vmid": f"VM {p.vmid} already exists"})


@branch.get("/status", NoParameters, check=("perm", "/", ("Sys.Audit",)))
async def read_status(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The nodes: this one, which is always online."""
    return [
        {
            "type": "node",
            "id": f"node/{call.rooms.node}",
            "name": call.rooms.node,
            "nodeid": 0,
            "ip": call.services.address,
            "local": 1,
            "online": 1,
            "level": "",
        }
    ]


@branch.get("/tasks", NoParameters, user="all", answer=list[ClusterTaskRow])
async def read_tasks(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """Recent tasks, newest first: all with Sys.Audit on the node, else one's own."""
    audit = await call.may(f"/nodes/{call.rooms.node}", "Sys.Audit")
    wanted = TaskFilter(source="all", owner=None if audit else str(call.identity))
    records, _ = await call.rooms.tasks.page(wanted, 0, _RECENT_TASKS)
    return [{**row, "saved": "0" if "endtime" not in row else "1"} for row in task_rows(records)]
