"""`/nodes/{node}/qemu/{vmid}`: copies of a VM, templates, and whether they can be made."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import FeatureQuery, GuestPath
from bastide.api.guest_permissions import Place
from bastide.api.qemu_disks import DiskKey
from bastide.api.qemu_permissions import check_copied
from bastide.api.routing import Branch, Call
from bastide.api.shapes_guests import Feature
from bastide.base.errors import MethodNotImplemented
from bastide.base.ids import VolumeId
from bastide.model.guest import Guest
from bastide.model.record import Multiline
from bastide.model.types import DnsName, NodeName, PoolId, StorageId, Vmid
from bastide.model.vm import VmConfig
from bastide.operations import snapshots
from bastide.operations.vm import clone, snapshot, template
from bastide.operations.volumes import owned_volumes

branch = Branch("/nodes/{node}/qemu/{vmid}")


class Clone(GuestPath):
    """The copy to make. Without `full` it is a full one, but of a template a linked one."""

    newid: Vmid
    name: DnsName | None = None
    description: Annotated[str | None, Field(max_length=8192), Multiline()] = None
    pool: PoolId | None = None
    snapname: Annotated[str | None, Field(max_length=40)] = None
    target: NodeName | None = None
    full: bool | None = None
    storage: StorageId | None = None
    format: Literal["raw", "qcow2", "vmdk"] | None = None
    bwlimit: Annotated[int | None, Field(ge=0)] = None


class MakeTemplate(GuestPath):
    """The one disk to make a base; without it all."""

    disk: DiskKey | None = None


@branch.get("/feature", FeatureQuery, check=("perm", "/vms/{vmid}", ("VM.Audit",)), answer=Feature)
async def read_feature(call: Call, p: FeatureQuery) -> dict[str, Any]:
    """Whether a snapshot, a linked clone or a full copy of the VM can be made now."""
    guest = await call.rooms.guests.get(p.vmid, "qemu")
    there = await snapshot.feature(call.rooms, guest, p.feature, p.snapname)
    return {"hasFeature": int(there), "nodes": [call.rooms.node] if there else []}


@branch.post("/clone", Clone, check=(
    "and", ("perm", "/vms/{vmid}", ("VM.Clone",)),
    ("or", ("perm", "/vms/{newid}", ("VM.Allocate",)), ("perm", "/pool/{pool}", ("VM.Allocate",), "require_param",
                                                       "pool"))))  # fmt: skip
async def clone_vm(call: Call, p: Clone) -> str:
    """Make a copy of a VM. Needs Datastore.AllocateSpace on the storages, and SDN.Use on the bridges."""
    if p.target not in (None, call.rooms.node):
        raise MethodNotImplemented(f"parameter 'target' not implemented: '{p.target}' is not this node")
    await _check_reach(call, await call.rooms.guests.get(p.vmid, "qemu"), p)
    wish = clone.Clone(
        newid=p.newid,
        name=p.name,
        description=p.description,
        full=p.full,
        snapshot=p.snapname,
        storage=p.storage,
        form=p.format,
        pool=p.pool,
        limit=p.bwlimit,
    )
    return str(await clone.clone_vm(call.rooms, call.identity, p.vmid, wish))


@branch.post("/template", MakeTemplate, check=("perm", "/vms/{vmid}", ("VM.Allocate",)))
async def make_template(call: Call, p: MakeTemplate) -> str:
    """Make a stopped VM a template, which linked clones are made of and which never runs again."""
    return str(await template.make_template(call.rooms, call.identity, p.vmid, p.disk))


async def _check_reach(call: Call, guest: Guest, p: Clone) -> None:
    """Raise PermissionDenied unless the caller may use what the copy will be on and at."""
    config = guest.config if p.snapname is None else snapshots.find(guest, p.snapname).config
    places = {VolumeId.parse(volume).storage for volume in owned_volumes(config, guest.vmid).values()}
    for storage in sorted({p.storage} if p.storage is not None else places):
        await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    await check_copied(Place(call, p.newid, p.pool), VmConfig.parse(config))
