"""`/nodes/{node}/lxc/{vmid}`: clones and templates, volumes on their way, and whether copies can be made."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import FeatureQuery, GuestPath, WithDigest
from bastide.api.lxc_permissions import check_copied
from bastide.api.routing import Branch, Call
from bastide.api.shapes_guests import Feature
from bastide.base.errors import MethodNotImplemented
from bastide.base.ids import VolumeId
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest
from bastide.model.record import Multiline
from bastide.model.types import Digest, DnsName, NodeName, PoolId, StorageId, Vmid
from bastide.operations import snapshots
from bastide.operations.ct import clone, move, template
from bastide.operations.volumes import owned_volumes

branch = Branch("/nodes/{node}/lxc/{vmid}")

_KEYS = (*(f"mp{number}" for number in range(256)), *(f"unused{number}" for number in range(256)))
VolumeKey = Literal["rootfs", *_KEYS]  # type: ignore[valid-type]
_Rate = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


class Clone(GuestPath):
    """The container to make. Without `full` it is a full clone, but of a template a linked one."""

    newid: Vmid
    hostname: DnsName | None = None
    description: Annotated[str | None, Field(max_length=8192), Multiline()] = None
    pool: PoolId | None = None
    snapname: Annotated[str | None, Field(max_length=40)] = None
    target: NodeName | None = None
    full: bool | None = None
    storage: StorageId | None = None
    bwlimit: _Rate = None


class Move(GuestPath, WithDigest):
    """A volume, and the storage or the other container that it goes to."""

    volume: VolumeKey
    storage: StorageId | None = None
    delete: bool | None = None
    target_vmid: Annotated[Vmid | None, Field(alias="target-vmid")] = None
    target_volume: Annotated[VolumeKey | None, Field(alias="target-volume")] = None
    target_digest: Annotated[Digest | None, Field(alias="target-digest")] = None
    bwlimit: _Rate = None


@branch.get("/feature", FeatureQuery, check=("perm", "/vms/{vmid}", ("VM.Audit",)), answer=Feature)
async def read_feature(call: Call, p: FeatureQuery) -> dict[str, Any]:
    """Whether a snapshot, a linked clone or a full copy of the container can be made now."""
    guest = await call.rooms.guests.get(p.vmid, "lxc")
    return {"hasFeature": int(await snapshots.feature(call.rooms, guest, p.feature, p.snapname))}


@branch.post("/clone", Clone, check=(
    "and", ("perm", "/vms/{vmid}", ("VM.Clone",)),
    ("or", ("perm", "/vms/{newid}", ("VM.Allocate",)), ("perm", "/pool/{pool}", ("VM.Allocate",), "require_param",
                                                       "pool"))))  # fmt: skip
async def clone_container(call: Call, p: Clone) -> str:
    """Make a container of another one. Needs Datastore.AllocateSpace on the storages, and SDN.Use on the bridges."""
    if p.target not in (None, call.rooms.node):
        raise MethodNotImplemented(f"parameter 'target' not implemented: '{p.target}' is not this node")
    await _check_reach(call, await call.rooms.guests.get(p.vmid, "lxc"), p)
    wish = clone.Clone(
        newid=p.newid,
        hostname=p.hostname,
        description=p.description,
        full=p.full,
        storage=p.storage,
        snapshot=p.snapname,
        pool=p.pool,
        limit=p.bwlimit,
    )
    return str(await clone.clone_container(call.rooms, call.identity, p.vmid, wish))


@branch.post("/template", GuestPath, check=("perm", "/vms/{vmid}", ("VM.Allocate",)))
async def make_template(call: Call, p: GuestPath) -> str:
    """Make a stopped container a template, which linked clones are made of and which never runs again."""
    return str(await template.make_template(call.rooms, call.identity, p.vmid))


@branch.post("/move_volume", Move, check=("perm", "/vms/{vmid}", ("VM.Config.Disk",)))
async def move_volume(call: Call, p: Move) -> str:
    """Move a volume to another storage, or give it to another container.

    Needs Datastore.AllocateSpace on the storage, and VM.Config.Disk on the other container.
    """
    guest = await call.rooms.guests.get(p.vmid, "lxc")
    if p.target_vmid is not None:
        await call.require(f"/vms/{p.target_vmid}", "VM.Config.Disk")
    volume = owned_volumes(guest.config, guest.vmid).get(p.volume)
    storage = p.storage or (VolumeId.parse(volume).storage if volume else None)
    if storage is not None:
        await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    wish = move.Move(
        key=p.volume,
        storage=p.storage,
        target_vmid=p.target_vmid,
        target_key=p.target_volume,
        delete=bool(p.delete),
        digest=p.digest,
        target_digest=p.target_digest,
        limit=p.bwlimit,
    )
    return str(await move.move_volume(call.rooms, call.identity, p.vmid, wish))


async def _check_reach(call: Call, guest: Guest, p: Clone) -> None:
    """Raise PermissionDenied unless the caller may use what the clone will be on and at."""
    config = guest.config if p.snapname is None else snapshots.find(guest, p.snapname).config
    places = {volid.storage for volid in snapshots.volumes_in(config, guest.vmid).values()}
    for storage in sorted({p.storage} if p.storage is not None else places):
        await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    await check_copied(call, ContainerConfig.parse(config))
