"""`/nodes/{node}/disks/{directory,lvm,lvmthin,zfs}`: storages on the host's own disks."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import NodePath
from bastide.api.routing import Branch, Call
from bastide.base.errors import InvalidParameter
from bastide.host import volume_groups, zpools
from bastide.model.record import PropertyString
from bastide.model.types import StorageId, split_list
from bastide.operations import disk_folders, disk_storages

_AUDIT = ("perm", "/", ("Sys.Audit",))
_MODIFY = ("perm", "/", ("Sys.Modify",))

_Device = Annotated[str, Field(pattern=r"^/dev/[a-zA-Z0-9\/_.:+@=-]+$", max_length=256)]

branch = Branch("/nodes/{node}/disks")


class DraidConfig(PropertyString):
    """How a dRAID is made: data devices a group, and spares."""

    data: Annotated[int, Field(ge=1)]
    spares: Annotated[int, Field(ge=0)]


class NewStorage(NodePath):
    """A name, and whether a storage of that name is added."""

    name: StorageId
    add_storage: bool = False


class NewOnDisk(NewStorage):
    """Something to make of one disk."""

    device: _Device


class NewDirectory(NewOnDisk):
    """A file system to make on a disk."""

    filesystem: Literal["ext4", "xfs"] = "ext4"


class NewPool(NewStorage):
    """A ZFS pool to make of disks."""

    devices: Annotated[str, Field(max_length=4096)]
    raidlevel: Literal["single", "mirror", "raid10", "raidz", "raidz2", "raidz3", "draid", "draid2", "draid3"]
    ashift: Annotated[int, Field(ge=9, le=16)] = 12
    compression: Literal["on", "off", "gzip", "lz4", "lzjb", "zle", "zstd"] = "on"
    draid_config: Annotated[DraidConfig | None, Field(alias="draid-config")] = None


class NamedPath(NodePath):
    """One of them."""

    name: StorageId


class Removal(NamedPath):
    """Whether its storage is forgotten, too, and its disks are wiped."""

    cleanup_config: Annotated[bool, Field(alias="cleanup-config")] = False
    cleanup_disks: Annotated[bool, Field(alias="cleanup-disks")] = False


class ThinRemoval(Removal):
    """And the volume group that a thin pool is in."""

    volume_group: Annotated[StorageId, Field(alias="volume-group")]


@branch.get("/directory", NodePath, check=_AUDIT)
async def list_directories(call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The folders that are file systems on the host's disks."""
    return await disk_folders.list_folders(call.rooms)


@branch.post("/directory", NewDirectory, check=_MODIFY)
async def make_directory(call: Call, p: NewDirectory) -> str:
    """Make a file system on an empty disk and mount it."""
    await _may_configure(call, asked=p.add_storage)
    upid = await disk_folders.make_folder(
        call.rooms, call.identity, p.name, p.device, p.filesystem, add_storage=p.add_storage
    )
    return str(upid)


@branch.delete("/directory/{name}", Removal, check=_MODIFY)
async def remove_directory(call: Call, p: Removal) -> str:
    """Unmount such a folder and forget it."""
    return str(await disk_folders.remove_folder(call.rooms, call.identity, p.name, **await _cleaning(call, p)))


@branch.get("/lvm", NodePath, check=_AUDIT)
async def list_groups(_call: Call, _p: NodePath) -> dict[str, Any]:
    """The LVM volume groups and their devices, as a tree."""
    groups = [
        {
            "leaf": 0,
            "name": group.name,
            "size": group.size,
            "free": group.free,
            "lvcount": group.volumes,
            "children": [
                {"leaf": 1, "name": member.path, "size": member.size, "free": member.free} for member in group.members
            ],
        }
        for group in await volume_groups.groups()
    ]
    return {"leaf": 0, "children": groups}


@branch.post("/lvm", NewOnDisk, check=_MODIFY)
async def make_group(call: Call, p: NewOnDisk) -> str:
    """Make a volume group on an empty disk."""
    await _may_configure(call, asked=p.add_storage)
    upid = await disk_storages.make_group(call.rooms, call.identity, p.name, p.device, add_storage=p.add_storage)
    return str(upid)


@branch.delete("/lvm/{name}", Removal, check=_MODIFY)
async def remove_group(call: Call, p: Removal) -> str:
    """Remove a volume group with all that is in it."""
    return str(await disk_storages.remove_group(call.rooms, call.identity, p.name, **await _cleaning(call, p)))


@branch.get("/lvmthin", NodePath, check=_AUDIT)
async def list_thin_pools(_call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The LVM thin pools."""
    return [
        {
            "lv": pool.name,
            "vg": pool.group,
            "lv_size": pool.size,
            "used": pool.used,
            "metadata_size": pool.metadata_size,
            "metadata_used": pool.metadata_used,
        }
        for pool in await volume_groups.thin_pools()
    ]


@branch.post("/lvmthin", NewOnDisk, check=_MODIFY)
async def make_thin_pool(call: Call, p: NewOnDisk) -> str:
    """Make a volume group on an empty disk and a thin pool in it."""
    await _may_configure(call, asked=p.add_storage)
    upid = await disk_storages.make_thin_pool(call.rooms, call.identity, p.name, p.device, add_storage=p.add_storage)
    return str(upid)


@branch.delete("/lvmthin/{name}", ThinRemoval, check=_MODIFY)
async def remove_thin_pool(call: Call, p: ThinRemoval) -> str:
    """Remove a thin pool with all that is in it."""
    cleaning = await _cleaning(call, p)
    upid = await disk_storages.remove_thin_pool(call.rooms, call.identity, p.name, p.volume_group, **cleaning)
    return str(upid)


@branch.get("/zfs", NodePath, check=_AUDIT)
async def list_zpools(_call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The ZFS pools."""
    return [
        {
            "name": pool.name,
            "size": pool.size,
            "alloc": pool.allocated,
            "free": pool.free,
            "frag": pool.fragmentation,
            "dedup": pool.dedup,
            "health": pool.health,
        }
        for pool in await zpools.pools()
    ]


@branch.post("/zfs", NewPool, check=_MODIFY)
async def make_zpool(call: Call, p: NewPool) -> str:
    """Make a ZFS pool of empty disks."""
    await _may_configure(call, asked=p.add_storage)
    if p.draid_config is not None and not p.raidlevel.startswith("draid"):
        raise InvalidParameter({"draid-config": f"raidlevel {p.raidlevel} has none"})
    draid = None if p.draid_config is None else (p.draid_config.data, p.draid_config.spares)
    upid = await disk_storages.make_zpool(
        call.rooms,
        call.identity,
        p.name,
        split_list(p.devices),
        p.raidlevel,
        ashift=p.ashift,
        compression=p.compression,
        draid=draid,
        add_storage=p.add_storage,
    )
    return str(upid)


@branch.get("/zfs/{name}", NamedPath, check=_AUDIT)
async def read_zpool(_call: Call, p: NamedPath) -> dict[str, Any]:
    """A ZFS pool's state and its devices."""
    found = await zpools.status(p.name)
    return {
        "name": found.name,
        "leaf": 0,
        "state": "UNKNOWN",
        "errors": "",
        **found.texts,
        "children": [_vdev(vdev) for vdev in found.vdevs],
    }


@branch.delete("/zfs/{name}", Removal, check=_MODIFY)
async def remove_zpool(call: Call, p: Removal) -> str:
    """Destroy a ZFS pool with all that is in it."""
    return str(await disk_storages.remove_zpool(call.rooms, call.identity, p.name, **await _cleaning(call, p)))


def _vdev(vdev: zpools.Vdev) -> dict[str, Any]:
    row: dict[str, Any] = {"name": vdev.name, "leaf": int(not vdev.children), "msg": vdev.message}
    if vdev.state is not None:
        row["state"] = vdev.state
    if vdev.errors is not None:
        row |= dict(zip(("read", "write", "cksum"), vdev.errors, strict=True))
    return row if not vdev.children else {**row, "children": [_vdev(child) for child in vdev.children]}


async def _may_configure(call: Call, *, asked: bool) -> None:
    """Adding or forgetting a storage needs what `/storage` needs for it, besides."""
    if asked:
        await call.require("/storage", "Datastore.Allocate")


async def _cleaning(call: Call, p: Removal) -> dict[str, bool]:
    await _may_configure(call, asked=p.cleanup_config)
    return {"cleanup_config": p.cleanup_config, "cleanup_disks": p.cleanup_disks}
