"""`/nodes/{node}/disks`: the host's own disks: listed, asked for their health, given a partition table, wiped."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import NodePath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.operations import disks

_AUDIT = ("perm", "/", ("Sys.Audit",))
_MODIFY = ("perm", "/", ("Sys.Modify",))

DiskPath = Annotated[str, Field(pattern=r"^/dev/[a-zA-Z0-9\/]+$", max_length=256)]

branch = Branch("/nodes/{node}/disks")


class DisksQuery(NodePath):
    """Which disks, and how much of each."""

    include_partitions: Annotated[bool, Field(alias="include-partitions")] = False
    skipsmart: bool = False
    type: Literal["unused", "journal_disks"] | None = None


class SmartQuery(NodePath):
    """A disk's health, or all that it tells."""

    disk: DiskPath
    healthonly: bool | None = None


class NewGpt(NodePath):
    """A disk to give a GPT."""

    disk: DiskPath
    uuid: Annotated[str | None, Field(pattern=r"^[a-fA-F0-9\-]+$", max_length=36)] = None


class DiskName(NodePath):
    """A disk or a partition."""

    disk: DiskPath


@branch.get("", NodePath, user="all")
async def read_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """What can be done with disks."""
    return index("name", "directory", "initgpt", "list", "lvm", "lvmthin", "smart", "wipedisk", "zfs")


@branch.get("/list", DisksQuery, check=("or", _AUDIT, ("perm", "/nodes/{node}", ("Sys.Audit",))))
async def list_disks(_call: Call, p: DisksQuery) -> list[dict[str, Any]]:
    """The host's disks and what they are used as."""
    return await disks.list_disks(p.type, partitions=p.include_partitions, health=not p.skipsmart)


@branch.get("/smart", SmartQuery, check=_AUDIT)
async def read_smart(_call: Call, p: SmartQuery) -> dict[str, Any]:
    """What a disk tells of its health."""
    health = await disks.health_of(p.disk, health_only=bool(p.healthonly))
    if p.healthonly:
        return {"health": health.health}
    if health.attributes is None:
        return {"health": health.health, "type": "text", "text": health.text}
    rows = [
        {
            "id": f"{one.id:3}",
            "name": one.name,
            "value": one.value,
            "worst": one.worst,
            "threshold": one.threshold,
            "flags": one.flags,
            "raw": one.raw,
            "fail": one.fail,
        }
        for one in health.attributes
    ]
    return {"health": health.health, "type": "ata", "attributes": rows}


@branch.post("/initgpt", NewGpt, check=_MODIFY)
async def init_gpt(call: Call, p: NewGpt) -> str:
    """Give an unused disk an empty GPT."""
    return str(await disks.init_gpt(call.rooms, call.identity, p.disk, p.uuid))


@branch.put("/wipedisk", DiskName)
async def wipe_disk(call: Call, p: DiskName) -> str:
    """Wipe a disk or a partition that nothing uses."""
    return str(await disks.wipe(call.rooms, call.identity, p.disk))
