"""`/nodes/{node}/qemu`: VMs: making, changing, removing, and what they are."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api import qemu_permissions
from bastide.api.fields import GuestGraph, GuestPath, GuestSeries, NodePath, WithDigest
from bastide.api.graphs import picture
from bastide.api.guest_permissions import Place
from bastide.api.lists import index
from bastide.api.new_guests import MAKING, NewGuest, open_source, wish
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.api.shape import Options
from bastide.api.shapes_guests import Moment, PendingRow, VmRow
from bastide.base.errors import InvalidParameter, MethodNotImplemented
from bastide.base.ids import Upid
from bastide.model.guest import Guest
from bastide.model.types import ArchiveText, ConfigKeys, StorageId, split_list
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations import destroy, inspect, snapshots
from bastide.operations.pending import pending_rows
from bastide.operations.vm import configure, create, restore

_AUDIT = ("perm", "/vms/{vmid}", ("VM.Audit",))
_CHANGE = ("perm", "/vms/{vmid}", ("VM.Config.Disk", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Memory",
                                   "VM.Config.Network", "VM.Config.HWType", "VM.Config.Options",
                                   "VM.Config.Cloudinit"), "any", 1)  # fmt: skip

branch = Branch("/nodes/{node}/qemu")

SkipLock = Annotated[bool | None, NotBuilt(root_only=True)]
"""Passing by another task's lock."""


class VmQuery(NodePath):
    """How much of each VM."""

    full: bool | None = None


class _Options(VmOptions):
    """The options as a caller writes them: `cdrom` is an older name of `ide2`."""

    cdrom: Annotated[str | None, Field(max_length=4096)] = None

    def options(self) -> VmOptions:
        """The options alone, without what else the method takes."""
        texts = {key: value for key, value in self.to_text().items() if VmOptions.knows(key)}
        if self.cdrom:
            texts["ide2"] = self.cdrom if "media=" in self.cdrom else f"{self.cdrom},media=cdrom"
        return VmOptions.parse(texts)


class VmCreate(_Options, NewGuest):
    """A new VM, or with `archive` one that comes back from a backup, also with `force` over one that is there."""

    archive: ArchiveText | None = None
    bwlimit: Annotated[int | None, Field(ge=0)] = None
    import_working_storage: Annotated[StorageId | None, Field(alias="import-working-storage"), NotBuilt()] = None
    live_restore: Annotated[bool | None, Field(alias="live-restore")] = None


class VmDelete(GuestPath):
    """How a VM is removed."""

    purge: bool | None = None
    destroy_unreferenced_disks: Annotated[bool | None, Field(alias="destroy-unreferenced-disks")] = None
    skiplock: SkipLock = None


class ConfigQuery(GuestPath):
    """Which state of the configuration."""

    current: bool | None = None
    snapshot: Annotated[str | None, Field(max_length=40)] = None


class ConfigChange(_Options, GuestPath, WithDigest):
    """Options to set, to delete, or whose pending change to forget. `force` removes the volumes of deleted disks."""

    delete: Annotated[ConfigKeys | None, Field(max_length=16384)] = None
    revert: Annotated[ConfigKeys | None, Field(max_length=16384)] = None
    force: bool | None = None
    skiplock: SkipLock = None


class ConfigTask(ConfigChange):
    """The same as a task; the answer waits up to `background_delay` seconds for its end."""

    background_delay: Annotated[int | None, Field(ge=1, le=30)] = None
    import_working_storage: Annotated[StorageId | None, Field(alias="import-working-storage"), NotBuilt()] = None


class DbusVmstate(GuestPath):
    """What to do with the helper."""

    action: Literal["start", "stop"]


@dataclass(frozen=True, slots=True)
class _Change:
    """What a caller who may asks to change."""

    options: VmOptions
    delete: list[str]
    revert: list[str]


@branch.get("", VmQuery, user="all", answer=list[VmRow])
async def list_vms(call: Call, p: VmQuery) -> list[dict[str, Any]]:
    """The VMs on which the caller has VM.Audit; with `full` also what QEMU says of those that run."""
    rows = await inspect.list_vms(call.rooms, full=bool(p.full))
    if call.is_root:
        return rows
    authority = await call.access.authority()
    return [row for row in rows if authority.allows(call.identity, f"/vms/{row['vmid']}", ("VM.Audit",))]


@branch.post("", VmCreate, user="all", needs=MAKING)
async def create_vm(call: Call, p: VmCreate) -> str:
    """Make a VM, or restore one from a backup.

    Needs VM.Allocate on /vms/{vmid} or on the pool, each option's own privilege, Datastore.AllocateSpace on the
    storages of new disks, and SDN.Use on the bridges. Restoring over a VM needs VM.Backup on it at least, and a backup
    of another VM Datastore.AllocateSpace on its storage and VM.Backup on that VM.
    """
    options = p.options()
    if p.archive is not None:
        return await _restore(call, p, p.archive, options)
    _refuse_without_archive(p)
    await qemu_permissions.check_create(Place(call, p.vmid, p.pool), options, storage=p.storage or "local")
    upid = await create.create_vm(
        call.rooms,
        call.identity,
        p.vmid,
        options,
        storage=p.storage,
        pool=p.pool,
        start=bool(p.start),
        limit=p.bwlimit,
    )
    return str(upid)


async def _restore(call: Call, p: VmCreate, archive: str, options: VmOptions) -> str:
    source = await open_source(call, p, "archive", archive)
    await qemu_permissions.check_restore(source.place, options, storage=p.storage)

    async def permit(found: VmOptions) -> None:
        await qemu_permissions.check_restored(source.place, found)

    asked = await wish(call, p, source, permit, p.bwlimit, live=bool(p.live_restore))
    return str(await restore.restore_vm(call.rooms, call.identity, p.vmid, source.archive, options, asked))


def _refuse_without_archive(p: VmCreate) -> None:
    for name in ("force", "unique"):
        if getattr(p, name):
            raise InvalidParameter({"archive": f"missing property - '{name}' requires this property"})
    if p.live_restore:
        raise MethodNotImplemented("parameter 'live-restore' not implemented without 'archive'")


@branch.get("/{vmid}", GuestPath, user="all")
async def read_index(_call: Call, _p: GuestPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "agent", "clone", "cloudinit", "config", "feature", "monitor", "move_disk", "pending",
                 "resize", "rrd", "rrddata", "sendkey", "snapshot", "status", "template", "termproxy", "unlink",
                 "vncproxy", "vncwebsocket")  # fmt: skip


@branch.delete("/{vmid}", VmDelete, check=("perm", "/vms/{vmid}", ("VM.Allocate",)))
async def delete_vm(call: Call, p: VmDelete) -> str:
    """Remove a VM with its volumes, and the grants on it."""
    return str(
        await destroy.destroy_guest(
            call.rooms,
            call.identity,
            p.vmid,
            unreferenced=bool(p.destroy_unreferenced_disks),
            purge=bool(p.purge),
        )
    )


@branch.get("/{vmid}/config", ConfigQuery, check=_AUDIT, answer=Options)
async def read_config(call: Call, p: ConfigQuery) -> dict[str, Any]:
    """The configuration with its pending changes, with `current` as it is in force, or a snapshot's."""
    if p.snapshot is not None:
        return dict(snapshots.shown_config(await call.rooms.guests.get(p.vmid), p.snapshot))
    return dict(configure.shown_config(await call.rooms.guests.get(p.vmid), current=bool(p.current)))


@branch.put("/{vmid}/config", ConfigChange, check=_CHANGE)
async def change_config(call: Call, p: ConfigChange) -> None:
    """Set and delete options: at once where that is possible, else at the next start."""
    change = await _checked(call, p)
    await configure.update_config(
        call.rooms,
        call.identity,
        p.vmid,
        change.options,
        delete=change.delete,
        revert=change.revert,
        digest=p.digest,
        force=bool(p.force),
    )


@branch.post("/{vmid}/config", ConfigTask, check=_CHANGE)
async def change_config_task(call: Call, p: ConfigTask) -> str | None:
    """Set and delete options as a task; nothing is answered when it ends well within `background_delay` seconds."""
    change = await _checked(call, p)
    upid = await configure.update_config_task(
        call.rooms,
        call.identity,
        p.vmid,
        change.options,
        delete=change.delete,
        revert=change.revert,
        digest=p.digest,
        force=bool(p.force),
    )
    ended_well = p.background_delay is not None and await _ends_well(call, upid, p.background_delay)
    return None if ended_well else str(upid)


@branch.get("/{vmid}/pending", GuestPath, check=_AUDIT, answer=list[PendingRow])
async def read_pending(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """Each option with what it is, what waits for the next start, and what will be deleted."""
    return [dict(row) for row in pending_rows(await call.rooms.guests.get(p.vmid))]


@branch.post("/{vmid}/dbus-vmstate", DbusVmstate, check=("perm", "/vms/{vmid}", ("VM.Migrate",)))
async def change_dbus_vmstate(_call: Call, p: DbusVmstate) -> None:
    """The helper that carries a VM's connections along when it migrates."""
    raise MethodNotImplemented(f"Method 'POST /nodes/{p.node}/qemu/{p.vmid}/dbus-vmstate' not implemented")


@branch.get("/{vmid}/rrddata", GuestSeries, check=_AUDIT, answer=list[Moment])
async def read_series(call: Call, p: GuestSeries) -> list[dict[str, Any]]:
    """The VM's time series."""
    return await call.services.sampler.rrddata(f"guest/{p.vmid}", p.timeframe, p.cf or "AVERAGE")


@branch.get("/{vmid}/rrd", GuestGraph, check=_AUDIT)
async def read_graph(call: Call, p: GuestGraph) -> dict[str, Any]:
    """A picture of the VM's time series."""
    return await picture(call, ("guest", str(p.vmid)), p.timeframe, p.ds, p.cf)


async def _checked(call: Call, p: ConfigChange) -> _Change:
    """What a change asks for, if the caller may. Raises InvalidParameter when it asks for nothing."""
    options = p.options()
    delete, revert = option_keys(p.delete), option_keys(p.revert)
    if not delete and not revert and not options.to_text():
        raise InvalidParameter({"vmid": "no options specified"})
    guest = await call.rooms.guests.get(p.vmid)
    place = Place(call, p.vmid)
    await qemu_permissions.check_options(place, options, [*delete, *revert], known_options(guest))
    qemu_permissions.refuse_mappings(options)
    return _Change(options, delete, revert)


def known_options(guest: Guest) -> list[VmOptions]:
    """The options in force and the ones that wait."""
    return [VmConfig.parse(guest.config), VmConfig.parse(guest.pending)]


def option_keys(text: str | None) -> list[str]:
    """The keys of a list that a caller writes."""
    return ["ide2" if key == "cdrom" else key for key in split_list(text or "")]


async def _ends_well(call: Call, upid: Upid, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            record = await call.rooms.tasks.wait(upid)
    except TimeoutError:
        return False
    return record.exitstatus == "OK"
