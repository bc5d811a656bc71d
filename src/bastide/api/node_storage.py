"""`/nodes/{node}/storage`: storages as this node sees them, and what is on them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import Consolidation, GraphQuery, NodePath, StoragePath, TimeFrame
from bastide.api.lists import index, storages_seen
from bastide.api.lxc_permissions import check_volume
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.base import units
from bastide.base.errors import InvalidParameter, MethodNotImplemented, NotSupported, PermissionDenied
from bastide.base.ids import VolumeId
from bastide.model.record import Multiline
from bastide.model.storage import Volume
from bastide.model.types import StorageId, Vmid, split_list
from bastide.operations import content
from bastide.storage.protocol import Storage

_SEE = ("perm", "/storage/{storage}", ("Datastore.Audit", "Datastore.AllocateSpace"), "any", 1)

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
    target_node: Annotated[str | None, Field(max_length=64), NotBuilt()] = None


class StorageSeries(StoragePath):
    """Which part of a storage's time series."""

    timeframe: TimeFrame
    cf: Consolidation | None = None


class StorageGraph(StoragePath, GraphQuery):
    """A picture of a storage's time series."""


@branch.get("", StoragesQuery, user="all")
async def list_storages(call: Call, p: StoragesQuery) -> list[dict[str, Any]]:
    """The storages that the caller may see, with their space."""
    wanted = set(split_list(p.content or ""))
    rows = []
    for storage in await storages_seen(call):
        config = storage.config
        if p.storage not in (None, config.storage) or (wanted and not wanted & config.contents):
            continue
        if p.enabled and not call.rooms.storages.enabled(config):
            continue
        row = {"storage": config.storage, **await _status(call, storage)}
        if p.format:
            row["formats"] = {"default": storage.capabilities.container_format, "supported": ["raw", "subvol"]}
        rows.append(row)
    return rows


@branch.get("/{storage}", StoragePath, check=_SEE)
async def read_index(call: Call, p: StoragePath) -> list[dict[str, str]]:
    """Directory index."""
    await call.rooms.storages.get(p.storage)
    return index("subdir", "content", "download-url", "rrd", "rrddata", "status", "upload")


@branch.get("/{storage}/status", StoragePath, check=_SEE)
async def read_status(call: Call, p: StoragePath) -> dict[str, Any]:
    """A storage's space and what it holds."""
    return await _status(call, await call.rooms.storages.get(p.storage))


@branch.get("/{storage}/content", ContentQuery, check=_SEE)
async def list_content(call: Call, p: ContentQuery) -> list[dict[str, Any]]:
    """The volumes that the caller may use."""
    storage = await call.rooms.storages.get(p.storage)
    volumes = await storage.list(p.content, p.vmid)
    rows = []
    for volume in volumes:
        try:
            await check_known_volume(call, p.storage, volume)
        except PermissionDenied:
            continue
        rows.append(_row(volume))
    return rows


@branch.post("/{storage}/content", NewVolume, check=("perm", "/storage/{storage}", ("Datastore.AllocateSpace",)))
async def create_volume(call: Call, p: NewVolume) -> str:
    """Make an empty volume for a container."""
    await call.require(f"/vms/{p.vmid}", "VM.Config.Disk")
    if p.format not in (None, "raw", "subvol"):
        raise NotSupported(f"format '{p.format}' is not for containers")
    return await content.allocate_volume(
        call.rooms, p.storage, p.vmid, p.filename, _bytes(p.size), volume_format=p.format
    )


@branch.get("/{storage}/content/{volume}", VolumePath, user="all")
async def read_volume(call: Call, p: VolumePath) -> dict[str, Any]:
    """A volume's attributes."""
    volid = _volid(p)
    await check_volume(call, volid)
    storage, name = await call.rooms.storages.resolve(volid)
    volume = await storage.info(name)
    row = {key: value for key, value in _row(volume).items() if key not in ("volid", "content")}
    if volume.content not in ("rootdir", "images"):
        row["path"] = str((await call.rooms.storages.files(p.storage, volume.content)).path(name))
    return row


@branch.put("/{storage}/content/{volume}", VolumeChange, user="all")
async def change_volume(call: Call, p: VolumeChange) -> None:
    """Change a volume's notes or protection."""
    volid = _volid(p)
    await _check_delete(call, volid)
    name = VolumeId.parse(volid).name
    storage, _ = await call.rooms.storages.resolve(volid)
    info = await storage.info(name)
    files = await call.rooms.storages.files(p.storage, info.content)
    await files.annotate(name, p.notes, p.protected)


@branch.delete("/{storage}/content/{volume}", VolumeDelete, user="all")
async def delete_volume(call: Call, p: VolumeDelete) -> str | None:
    """Remove a volume as a task; with `delay`, null when it ended within that many seconds."""
    volid = _volid(p)
    await _check_delete(call, volid)
    upid = await content.delete_volume(call.rooms, call.identity, volid)
    return await content.ended_within(call.rooms, upid, p.delay)


@branch.post("/{storage}/content/{volume}", VolumeCopy)
async def copy_volume(_call: Call, p: VolumeCopy) -> None:
    """Copy a volume: not built."""
    raise MethodNotImplemented(f"Method 'POST /nodes/{p.node}/storage/{p.storage}/content/{p.volume}' not implemented")


@branch.get("/{storage}/rrddata", StorageSeries, check=_SEE)
async def read_series(call: Call, p: StorageSeries) -> list[dict[str, Any]]:
    """A storage's time series."""
    await call.rooms.storages.get(p.storage)
    return await call.services.sampler.rrddata(f"storage/{p.storage}", p.timeframe, p.cf or "AVERAGE")


@branch.get("/{storage}/rrd", StorageGraph, check=_SEE)
async def read_graph(_call: Call, p: StorageGraph) -> None:
    """A picture of a storage's time series: not built; `rrddata` has the figures."""
    raise MethodNotImplemented(f"Method 'GET /nodes/{p.node}/storage/{p.storage}/rrd' not implemented")


async def check_known_volume(call: Call, storage: str, volume: Volume) -> None:
    """Like `check_volume`, for a volume that is at hand."""
    path = f"/storage/{storage}"
    if call.is_root or await call.may(path, "Datastore.Allocate"):
        return
    if volume.content in ("iso", "vztmpl", "import"):
        await call.require(path, "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    elif volume.content == "backup" and volume.vmid is not None:
        await call.require(path, "Datastore.AllocateSpace")
        await call.require(f"/vms/{volume.vmid}", "VM.Backup")
    elif volume.vmid is not None:
        await call.require(path, "Datastore.Audit")
        await call.require(f"/vms/{volume.vmid}", "VM.Config.Disk")
    else:
        await call.require(path, "Datastore.Allocate")


async def _check_delete(call: Call, volid: str) -> None:
    """Raise PermissionDenied unless the caller may remove or annotate the volume."""
    if call.is_root:
        return
    volume = VolumeId.parse(volid)
    path = f"/storage/{volume.storage}"
    if await call.may(path, "Datastore.Allocate"):
        return
    storage, name = await call.rooms.storages.resolve(volid)
    info = await storage.info(name)
    if info.content != "backup" or info.vmid is None:
        await call.require(path, "Datastore.Allocate")
    await call.require(path, "Datastore.AllocateSpace")
    await call.require(f"/vms/{info.vmid}", "VM.Backup")


def _volid(p: VolumePath) -> str:
    """The full volume id; the path may hold it with or without the storage."""
    storage, colon, _ = p.volume.partition(":")
    if not colon or "/" in storage:
        return str(VolumeId.parse(f"{p.storage}:{p.volume}"))
    if storage != p.storage:
        raise InvalidParameter({"volume": f"storage ID mismatch ({storage[:100]} != {p.storage})"})
    return str(VolumeId.parse(p.volume))


def _bytes(size: str) -> int:
    """Bytes of a size in KiB, or with M or G. Raises InvalidParameter."""
    try:
        return units.parse_size(size) * (units.KIB if size.isdecimal() else 1)
    except ValueError as error:
        raise InvalidParameter({"size": str(error)}) from None


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
    return row


def _row(volume: Volume) -> dict[str, Any]:
    row: dict[str, Any] = {
        "volid": volume.volid,
        "content": volume.content,
        "format": volume.format,
        "size": volume.size,
    }
    more = {"used": volume.used, "ctime": volume.ctime, "vmid": volume.vmid, "notes": volume.notes}
    row |= {key: value for key, value in more.items() if value is not None}
    if volume.protected:
        row["protected"] = 1
    return row
