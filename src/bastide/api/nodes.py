"""`/nodes`: the node itself: status, time, network, metrics."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api import version
from bastide.api.fields import Consolidation, NodePath
from bastide.api.graphs import picture
from bastide.api.lists import index, node_seen
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_guests import Moment, NodeResource
from bastide.api.shapes_nodes import Clock, InterfaceRow, NodeStatus, Version
from bastide.base.errors import MethodNotImplemented
from bastide.host import facts
from bastide.model.types import InterfaceName
from bastide.network import interfaces

NodeTimeFrame = Literal["hour", "day", "week", "month", "year", "decade"]

branch = Branch("/nodes")


class NodeCommand(NodePath):
    """What the machine is told."""

    command: Literal["reboot", "shutdown"]


class TimeZone(NodePath):
    """The machine's time zone."""

    timezone: Annotated[str, Field(max_length=255)]


class NetworkQuery(NodePath):
    """Which kind of interface."""

    type: (
        Literal[
            "bridge", "bond", "eth", "alias", "vlan", "fabric", "OVSBridge", "OVSBond", "OVSPort", "OVSIntPort",
            "vnet", "any_bridge", "any_local_bridge", "include_sdn",
        ]
        | None
    ) = None  # fmt: skip


class InterfacePath(NodePath):
    """One interface."""

    iface: InterfaceName


class NodeSeries(NodePath):
    """Which part of the node's time series."""

    timeframe: NodeTimeFrame
    cf: Consolidation | None = None


class NodeGraph(NodeSeries):
    """A picture of the node's time series."""

    ds: Annotated[str, Field(pattern=r"^[A-Za-z0-9_,;\s-]+$", max_length=512)]


@branch.get("", NoParameters, user="all", answer=list[NodeResource])
async def list_nodes(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The nodes; figures only with Sys.Audit on the node."""
    return [await node_seen(call)]


@branch.get("/{node}", NodePath, user="all")
async def read_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """Node index."""
    first = ("aplinfo", "capabilities", "disks", "hardware", "lxc", "network", "qemu", "query-url-metadata", "rrddata")
    return index("name", *first, "scan", "status", "storage", "tasks", "time", "version")


@branch.get("/{node}/version", NodePath, user="all", answer=Version)
async def read_version(call: Call, _p: NodePath) -> dict[str, Any]:
    """API version details."""
    return version.describe(call)


@branch.get("/{node}/status", NodePath, check=("perm", "/nodes/{node}", ("Sys.Audit",)), answer=NodeStatus)
async def read_status(call: Call, _p: NodePath) -> dict[str, Any]:
    """Processors, memory, disks and load of the machine."""
    return call.services.sampler.node_status(version.manager_version(call))


@branch.post("/{node}/status", NodeCommand, check=("perm", "/nodes/{node}", ("Sys.PowerMgmt",)))
async def command_node(_call: Call, p: NodeCommand) -> None:
    """Reboot or shut down the machine: not built."""
    raise MethodNotImplemented(f"Method 'POST /nodes/{p.node}/status' not implemented")


@branch.get("/{node}/time", NodePath, check=("perm", "/nodes/{node}", ("Sys.Audit",)), answer=Clock)
async def read_time(_call: Call, _p: NodePath) -> dict[str, Any]:
    """The machine's time and time zone."""
    return facts.clock()


@branch.put("/{node}/time", TimeZone, check=("perm", "/nodes/{node}", ("Sys.Modify",)))
async def set_time_zone(_call: Call, p: TimeZone) -> None:
    """Set the machine's time zone."""
    facts.set_timezone(p.timezone)


@branch.get("/{node}/network", NetworkQuery, user="all", answer=list[InterfaceRow])
async def list_interfaces(call: Call, p: NetworkQuery) -> list[dict[str, Any]]:
    """The machine's interfaces; a bridge only for who may use or see it."""
    rows = await interfaces.interfaces(p.type)
    audit = await call.may(f"/nodes/{call.rooms.node}", "Sys.Audit")
    return [row for row in rows if audit or await _may_see(call, row)]


@branch.get(
    "/{node}/network/{iface}", InterfacePath, check=("perm", "/nodes/{node}", ("Sys.Audit",)), answer=InterfaceRow
)
async def read_interface(_call: Call, p: InterfacePath) -> dict[str, Any]:
    """One interface of the machine."""
    return await interfaces.interface(p.iface)


@branch.get("/{node}/rrddata", NodeSeries, check=("perm", "/nodes/{node}", ("Sys.Audit",)), answer=list[Moment])
async def read_series(call: Call, p: NodeSeries) -> list[dict[str, Any]]:
    """The node's time series."""
    return await call.services.sampler.rrddata(f"node/{call.rooms.node}", p.timeframe, p.cf or "AVERAGE")


@branch.get("/{node}/rrd", NodeGraph, check=("perm", "/nodes/{node}", ("Sys.Audit",)))
async def read_graph(call: Call, p: NodeGraph) -> dict[str, Any]:
    """A picture of the node's time series."""
    return await picture(call, ("node", call.rooms.node), p.timeframe, p.ds, p.cf)


async def _may_see(call: Call, row: dict[str, Any]) -> bool:
    if row["type"] != "bridge":
        return False
    return await call.may(f"/sdn/zones/localnetwork/{row['iface']}", "SDN.Audit", "SDN.Use", any_of=True)
