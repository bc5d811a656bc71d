"""`/nodes/{node}/qemu/{vmid}/snapshot`: a VM's snapshots: taking, reading, going back to and deleting them."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import GuestPath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.api.shape import Options
from bastide.api.shapes_guests import SnapshotRow
from bastide.model.record import Multiline
from bastide.operations import snapshots
from bastide.operations.vm import snapshot

_AUDIT = ("perm", "/vms/{vmid}", ("VM.Audit",))
_SNAPSHOT = ("perm", "/vms/{vmid}", ("VM.Snapshot",))
_ROLLBACK = ("perm", "/vms/{vmid}", ("VM.Snapshot", "VM.Snapshot.Rollback"), "any", 1)
_READ = ("perm", "/vms/{vmid}", ("VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"), "any", 1)

branch = Branch("/nodes/{node}/qemu/{vmid}/snapshot")

_Name = Annotated[str, Field(max_length=40)]
_Description = Annotated[str | None, Field(max_length=8192), Multiline()]


class Take(GuestPath):
    """A snapshot to take; with `vmstate` the memory of a running VM too."""

    snapname: _Name
    description: _Description = None
    vmstate: bool | None = None


class SnapshotPath(GuestPath):
    """One snapshot."""

    snapname: _Name


class Delete(SnapshotPath):
    """How it is deleted; with `force` also when a volume keeps its part."""

    force: bool | None = None


class Rollback(SnapshotPath):
    """How the VM goes back to it; one whose memory was kept goes on in any case."""

    start: bool | None = None


class Describe(SnapshotPath):
    """What is written about it."""

    description: _Description = None


@branch.get("", GuestPath, check=_AUDIT, answer=list[SnapshotRow])
async def list_snapshots(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The VM's snapshots; the last row is its present state."""
    return snapshots.rows(call.rooms, await call.rooms.guests.get(p.vmid, "qemu"))


@branch.post("", Take, check=_SNAPSHOT)
async def take_snapshot(call: Call, p: Take) -> str:
    """Take a snapshot."""
    upid = await snapshot.take_snapshot(
        call.rooms, call.identity, p.vmid, p.snapname, p.description, memory=bool(p.vmstate)
    )
    return str(upid)


@branch.get("/{snapname}", SnapshotPath, user="all")
async def read_index(_call: Call, _p: SnapshotPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("cmd", "config", "rollback")


@branch.delete("/{snapname}", Delete, check=_SNAPSHOT)
async def delete_snapshot(call: Call, p: Delete) -> str:
    """Delete a snapshot."""
    upid = await snapshot.delete_snapshot(call.rooms, call.identity, p.vmid, p.snapname, force=bool(p.force))
    return str(upid)


@branch.get("/{snapname}/config", SnapshotPath, check=_READ, answer=Options)
async def read_config(call: Call, p: SnapshotPath) -> dict[str, Any]:
    """The configuration that the snapshot keeps."""
    return dict(snapshots.shown_config(await call.rooms.guests.get(p.vmid, "qemu"), p.snapname))


@branch.put("/{snapname}/config", Describe, check=_SNAPSHOT)
async def describe(call: Call, p: Describe) -> None:
    """Change what is written about a snapshot."""
    guest = await call.rooms.guests.get(p.vmid, "qemu")
    await snapshots.describe(call.rooms, call.identity, guest, p.snapname, p.description)


@branch.post("/{snapname}/rollback", Rollback, check=_ROLLBACK)
async def roll_back(call: Call, p: Rollback) -> str:
    """Take the VM back to a snapshot."""
    return str(await snapshot.roll_back(call.rooms, call.identity, p.vmid, p.snapname, start=bool(p.start)))
