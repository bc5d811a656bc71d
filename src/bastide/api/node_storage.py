"""`/nodes/{node}/storage`: storages as this node sees them, and what is on them."""

import asyncio
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import Consolidation, GraphQuery, NodePath, StoragePath, TimeFrame, volume_on
from bastide.api.graphs import picture
from bastide.api.lists import index, storages_seen
from bastide.api.routing import Branch, Call
from bastide.api.shapes_guests import Moment
from bastide.api.shapes_storage import StorageRow, StorageStatus, VolumeInfo, VolumeRow
from bastide.api.volume_permissions import check_removal, check_volume, may_see, most_protected
from bastide.base.errors import MethodNotImplemented
from bastide.model.record import Multiline
from bastide.model.types import NodeName, StorageId, Vmid, split_list
from bastide.operations import content, volume_copy
from bastide.storage.protocol import Storage

_SEE = ("perm", "/storage/{storage}", ("Datastore.Audit", "Datastore.AllocateSpace"), "any", 1)

_BELOW = ("content", "download-url", "file-restore", "import-metadata", "oci-registry-pull", "prunebackups", "rrd",
          "rrddata", "status", "upload")  # fmt: skip

branch = Branch("/nodes/{node}/storage")


class StoragesQuery(NodePath):
    """Which storages."""

    content: Annotated[str | None, Field(pattern=r"^[a-z]+([,; ][a-z]+)*$")] = None
    enabled: bool | None = None
    format: bool | None = None
    storage: StorageId | None = None
    target: Annotated[str | None, Field(max_length=64)] = None


class ContentQuery(StoragePath):
    """Which volumes."""

    content: Literal["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import"] | None = None
    vmid: Vmid | None = None


class NewVolume(StoragePath):
    """A volume to make."""

    filename: Annotated[str, Field(max_length=255)]
    size: Annotated[str, Field(pattern=r"^\d+[MG]?$", max_length=20)]
    vmid: Vmid
    format: Literal["raw", "qcow2", "subvol", "vmdk"] | None = None


class VolumePath(StoragePath):
    """A volume, by its name or its id."""

    volume: Annotated[str, Field(min_length=1, max_length=512)]


class VolumeDelete(VolumePath):
    """How long to wait for the removal."""

    delay: Annotated[int | None, Field(ge=1, le=30)] = None


class VolumeChange(VolumePath):
    """A volume's notes and whether it may be removed."""

    notes: Annotated[str | None, Field(max_length=65536), Multiline()] = None
    protected: bool | None = None


class VolumeCopy(VolumePath):
    """Where to copy a volume."""

    target: Annotated[str, Field(max_length=512)]
    target_node: NodeName | None = None


class StorageSeries(StoragePath):
    """Which part of a storage's time series."""

    timeframe: TimeFrame
    cf: Consolidation | None = None


class StorageGraph(StoragePath, GraphQuery):
    """A picture of a storage's time series."""


@branch.get("", StoragesQuery, user="all", answer=list[StorageRow])
async def list_storages(call: Call, p: StoragesQuery) -> list[dict[str, Any]]:
    """The storages that the caller may see, with their space."""
    wanted = set(split_list(p.content or ""))
    shown = [
        storage
        for storage in await storages_seen(call)
        if p.storage in (None, storage.config.storage)
        and (not wanted or wanted & storage.config.contents)
        and (not p.enabled or call.rooms.storages.enabled(storage.config))
        and p.target in (None, call.rooms.node)
    ]
    # Side by side: one that hangs takes its deadline, and the others do not wait their turn behind it.
    rows = await asyncio.gather(*(_status(call, storage) for storage in shown))
    return [
        {"storage": storage.config.storage, **row, **({"formats": _formats(storage)} if p.format else {})}
        for storage, row in zip(shown, rows, strict=True)
    ]


@branch.get("/{storage}", StoragePath, check=_SEE)
async def read_index(call: Call, p: StoragePath) -> list[dict[str, str]]:
    """Directory index."""
    await call.rooms.storages.get(p.storage)
    return index("subdir", *_BELOW)


@branch.get("/{storage}/status", StoragePath, check=_SEE, answer=StorageStatus)
async def read_status(call: Call, p: StoragePath) -> dict[str, Any]:
    """A storage's space and what it holds."""
    return await _status(call, await call.rooms.storages.get(p.storage))


@branch.get("/{storage}/content", ContentQuery, check=_SEE, answer=list[VolumeRow])
async def list_content(call: Call, p: ContentQuery) -> list[dict[str, Any]]:
    """The volumes that the caller may use."""
    rows = await content.list_content(call.rooms, p.storage, p.content, p.vmid)
    return [row for row in rows if await may_see(call, p.storage, row["content"], row.get("vmid"))]


@branch.post("/{storage}/content", NewVolume, check=("perm", "/storage/{storage}", ("Datastore.AllocateSpace",)))
async def create_volume(call: Call, p: NewVolume) -> str:
    """Make an empty volume for a guest."""
    await call.require(f"/vms/{p.vmid}", "VM.Config.Disk")
    return await content.create_volume(call.rooms, p.storage, p.vmid, p.filename, size=p.size, form=p.format)


@branch.get("/{storage}/content/{volume}", VolumePath, user="all", answer=VolumeInfo)
async def read_volume(call: Call, p: VolumePath) -> dict[str, Any]:
    """A volume's attributes."""
    volid = volume_on(p.storage, p.volume)
    await check_volume(call, volid)
    row = await content.volume_info(call.rooms, volid)
    return {key: value for key, value in row.items() if key not in ("volid", "content")}


@branch.put("/{storage}/content/{volume}", VolumeChange, user="all")
async def change_volume(call: Call, p: VolumeChange) -> None:
    """Change a volume's notes or protection."""
    volid = volume_on(p.storage, p.volume)
    await check_removal(call, volid)
    await content.annotate(call.rooms, volid, p.notes, p.protected, most=await most_protected(call, p.storage))


@branch.delete("/{storage}/content/{volume}", VolumeDelete, user="all")
async def delete_volume(call: Call, p: VolumeDelete) -> str | None:
    """Remove a volume as a task; with `delay`, null when it ended within that many seconds."""
    volid = volume_on(p.storage, p.volume)
    await check_removal(call, volid)
    upid = await content.delete_volume(call.rooms, call.identity, volid)
    if p.delay is None:
        return str(upid)
    try:
        async with asyncio.timeout(p.delay):
            record = await call.rooms.tasks.wait(upid)
    except TimeoutError:
        return str(upid)
    return None if record.exitstatus == "OK" else str(upid)


@branch.post("/{storage}/content/{volume}", VolumeCopy)
async def copy_volume(call: Call, p: VolumeCopy) -> str:
    """Copy a volume as a task; the target may be on another storage when it names that."""
    if p.target_node not in (None, call.rooms.node):
        raise MethodNotImplemented("a copy to another node is not implemented")
    target = p.target if ":" in p.target else f"{p.storage}:{p.target}"
    return str(await volume_copy.copy_volume(call.rooms, call.identity, volume_on(p.storage, p.volume), target))


@branch.get("/{storage}/rrddata", StorageSeries, check=_SEE, answer=list[Moment])
async def read_series(call: Call, p: StorageSeries) -> list[dict[str, Any]]:
    """A storage's time series."""
    await call.rooms.storages.get(p.storage)
    return await call.services.sampler.rrddata(f"storage/{p.storage}", p.timeframe, p.cf or "AVERAGE")


@branch.get("/{storage}/rrd", StorageGraph, check=_SEE)
async def read_graph(call: Call, p: StorageGraph) -> dict[str, Any]:
    """A picture of a storage's time series."""
    await call.rooms.storages.get(p.storage)
    return await picture(call, ("storage", p.storage), p.timeframe, p.ds, p.cf)


def _formats(storage: Storage) -> dict[str, Any]:
    """What volumes of guests can be, and what they are when nobody says."""
    known = storage.capabilities
    supported = {*known.disk_formats, *(("raw", "subvol") if "rootdir" in known.contents else ())}
    default = known.default_disk_format if known.disk_formats else known.container_format
    return {"default": default, "supported": sorted(supported)}


async def _status(call: Call, storage: Storage) -> dict[str, Any]:
    config = storage.config
    enabled = call.rooms.storages.enabled(config)
    row: dict[str, Any] = {
        "type": config.type,
        "content": ",".join(sorted(config.contents)),
        "shared": int(config.shared),
        "enabled": int(enabled),
        "active": 0,
    }
    if enabled:
        usage = await storage.usage()
        row |= {"active": int(usage.active), "total": usage.total, "used": usage.used, "avail": usage.available}
        if usage.total:
            row["used_fraction"] = usage.used / usage.total
        allocated = await call.rooms.storages.allocated(storage) if usage.active else None
        if allocated is not None:
            row["allocated"] = allocated
            if usage.total:
                row["promised"] = allocated / usage.total
    return row
