"""`/nodes/{node}/lxc`: containers: making, changing, growing, removing, and what they are."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api import lxc_permissions
from bastide.api.fields import GuestGraph, GuestPath, GuestSeries, NodePath, WithDigest
from bastide.api.graphs import picture
from bastide.api.lists import index
from bastide.api.new_guests import MAKING, NewGuest, open_source, wish
from bastide.api.routing import Branch, Call
from bastide.api.shape import Options
from bastide.api.shapes_guests import ContainerInterface, ContainerRow, Moment, PendingRow
from bastide.base.errors import InvalidParameter
from bastide.model.audit import Bulk, Secret
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.record import Multiline
from bastide.model.types import ArchiveText, ConfigKeys, PublicKeys, split_list
from bastide.operations import destroy, inspect, snapshots
from bastide.operations.ct import configure, create, resize, restore
from bastide.operations.pending import pending_rows

_AUDIT = ("perm", "/vms/{vmid}", ("VM.Audit",))

branch = Branch("/nodes/{node}/lxc")


class ContainerCreate(ContainerOptions, NewGuest):
    """A new container, of a template or, with `restore`, of a backup; then `force` replaces one that is there."""

    ostemplate: ArchiveText
    password: Annotated[str | None, Field(min_length=5, max_length=1024), Secret()] = None
    ssh_public_keys: Annotated[
        PublicKeys | None, Field(alias="ssh-public-keys", max_length=65536), Multiline(), Bulk()
    ] = None
    # Bastide's own: unpack the template, where the container would share a base with others.
    full: bool | None = None
    bwlimit: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    ignore_unpack_errors: Annotated[bool | None, Field(alias="ignore-unpack-errors")] = None
    restore: bool | None = None


class ContainerDelete(GuestPath):
    """How a container is removed."""

    force: bool | None = None
    purge: bool | None = None
    destroy_unreferenced_disks: Annotated[bool | None, Field(alias="destroy-unreferenced-disks")] = None


class ConfigQuery(GuestPath):
    """Which state of the configuration."""

    current: bool | None = None
    snapshot: Annotated[str | None, Field(max_length=40)] = None


class ConfigChange(ContainerOptions, GuestPath, WithDigest):
    """Options to set, to delete, or whose pending change to forget."""

    delete: Annotated[ConfigKeys | None, Field(max_length=16384)] = None
    revert: Annotated[ConfigKeys | None, Field(max_length=16384)] = None


class Resize(GuestPath, WithDigest):
    """A volume and its new size."""

    disk: Literal["rootfs", *(f"mp{number}" for number in range(256))]  # type: ignore[valid-type]
    size: Annotated[str, Field(pattern=r"^\+?\d{1,15}(\.\d{1,6})?[KMGT]?$")]


@branch.get("", NodePath, user="all", answer=list[ContainerRow])
async def list_containers(call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The containers on which the caller has VM.Audit."""
    rows = await inspect.list_containers(call.rooms)
    if call.is_root:
        return rows
    authority = await call.access.authority()
    return [row for row in rows if authority.allows(call.identity, f"/vms/{row['vmid']}", ("VM.Audit",))]


@branch.post("", ContainerCreate, user="all", needs=MAKING)
async def create_container(call: Call, p: ContainerCreate) -> str:
    """Make a container from a template, or restore one from a backup.

    Needs VM.Allocate on /vms/{vmid} or on the pool, each option's own privilege, Datastore.AllocateSpace on the
    storages, SDN.Use on the bridges, and Sys.Modify on / for a privileged one. Restoring over a container needs
    VM.Backup on it at least, and a backup of another guest Datastore.AllocateSpace on its storage and VM.Backup on that
    guest.
    """
    options = container_options(p)
    if p.restore:
        return await _restore(call, p, options)
    if p.unique:
        raise InvalidParameter({"restore": "missing property - 'unique' requires this property"})
    await lxc_permissions.check_create(
        call, p.vmid, options, template=p.ostemplate, storage=p.storage or "local", pool=p.pool
    )
    upid = await create.create_container(
        call.rooms,
        call.identity,
        p.vmid,
        p.ostemplate,
        options,
        storage=p.storage or "local",
        credentials=create.Credentials(p.password, p.ssh_public_keys),
        pool=p.pool,
        start=bool(p.start),
        full=bool(p.full),
    )
    return str(upid)


async def _restore(call: Call, p: ContainerCreate, options: ContainerOptions) -> str:
    """Passwords and keys are those of the backup, as in Proxmox VE."""
    source = await open_source(call, p, "ostemplate", p.ostemplate)
    await lxc_permissions.check_restore(source.place, options, storage=p.storage or "local")

    async def permit(found: ContainerOptions) -> None:
        await lxc_permissions.check_restored(call, found)

    asked = await wish(call, p, source, permit, p.bwlimit, ignore_errors=bool(p.ignore_unpack_errors))
    return str(await restore.restore_container(call.rooms, call.identity, p.vmid, source.archive, options, wish=asked))


@branch.get("/{vmid}", GuestPath, user="all")
async def read_index(_call: Call, _p: GuestPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "clone", "config", "feature", "interfaces", "move_volume", "pending", "resize", "rrd",
                 "rrddata", "snapshot", "status", "template", "termproxy", "vncproxy", "vncwebsocket")  # fmt: skip


@branch.delete("/{vmid}", ContainerDelete, check=("perm", "/vms/{vmid}", ("VM.Allocate",)))
async def delete_container(call: Call, p: ContainerDelete) -> str:
    """Remove a container with its volumes, and the grants on it."""
    upid = await destroy.destroy_guest(
        call.rooms,
        call.identity,
        p.vmid,
        force=bool(p.force),
        unreferenced=bool(p.destroy_unreferenced_disks),
        purge=bool(p.purge),
    )
    return str(upid)


@branch.get("/{vmid}/config", ConfigQuery, check=_AUDIT, answer=Options)
async def read_config(call: Call, p: ConfigQuery) -> dict[str, Any]:
    """The configuration with its pending changes, with `current` as it is in force, or a snapshot's."""
    if p.snapshot is not None:
        return dict(snapshots.shown_config(await call.rooms.guests.get(p.vmid, "lxc"), p.snapshot))
    return dict(configure.shown_config(await call.rooms.guests.get(p.vmid), current=bool(p.current)))


@branch.put("/{vmid}/config", ConfigChange,
            check=("perm", "/vms/{vmid}", ("VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network",
                                           "VM.Config.Options"), "any", 1))  # fmt: skip
async def change_config(call: Call, p: ConfigChange) -> None:
    """Set and delete options: at once where that is possible, else at the next start."""
    options = container_options(p)
    delete, revert = split_list(p.delete or ""), split_list(p.revert or "")
    if not delete and not revert and not options.to_text():
        raise InvalidParameter({"vmid": "no options specified"})
    guest = await call.rooms.guests.get(p.vmid)
    present = ContainerConfig.parse(guest.config)
    unprivileged = bool(present.unprivileged)
    if options.unprivileged is False and unprivileged:
        await lxc_permissions.check_privileged(call)
    await lxc_permissions.check_options(
        call, p.vmid, options, [*delete, *revert], before=present, unprivileged=unprivileged
    )
    await configure.update_config(
        call.rooms, call.identity, p.vmid, options, delete=delete, revert=revert, digest=p.digest
    )


@branch.get("/{vmid}/pending", GuestPath, check=_AUDIT, answer=list[PendingRow])
async def read_pending(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """Each option with what it is, what waits for the next start, and what will be deleted."""
    return [dict(row) for row in pending_rows(await call.rooms.guests.get(p.vmid))]


@branch.put("/{vmid}/resize", Resize, check=("perm", "/vms/{vmid}", ("VM.Config.Disk",), "any", 1))
async def resize_volume(call: Call, p: Resize) -> str:
    """Give a volume another size. Needs Datastore.AllocateSpace on its storage."""
    guest = await call.rooms.guests.get(p.vmid)
    storage = str(guest.config.get(p.disk, "")).removeprefix("volume=").partition(":")[0]
    if storage and not storage.startswith("/"):
        await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    return str(await resize.resize_volume(call.rooms, call.identity, p.vmid, p.disk, p.size, digest=p.digest))


@branch.get("/{vmid}/interfaces", GuestPath, check=_AUDIT, answer=list[ContainerInterface])
async def read_interfaces(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The interfaces of a running container as its own kernel tells them."""
    return await inspect.interfaces(call.rooms, p.vmid)


@branch.get("/{vmid}/rrddata", GuestSeries, check=_AUDIT, answer=list[Moment])
async def read_series(call: Call, p: GuestSeries) -> list[dict[str, Any]]:
    """The container's time series."""
    await call.rooms.guests.get(p.vmid)
    return await call.services.sampler.rrddata(f"guest/{p.vmid}", p.timeframe, p.cf or "AVERAGE")


@branch.get("/{vmid}/rrd", GuestGraph, check=_AUDIT)
async def read_graph(call: Call, p: GuestGraph) -> dict[str, Any]:
    """A picture of the container's time series."""
    await call.rooms.guests.get(p.vmid)
    return await picture(call, ("guest", str(p.vmid)), p.timeframe, p.ds, p.cf)


def container_options(params: ContainerOptions) -> ContainerOptions:
    """The options alone, without what else the method takes."""
    texts = {key: value for key, value in params.to_text().items() if ContainerOptions.knows(key)}
    return ContainerOptions.parse(texts)
