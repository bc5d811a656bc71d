"""`/nodes/{node}/lxc/{vmid}/snapshot`: a container's snapshots: taking, reading, going back to and deleting them."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import GuestPath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.api.shape import Options
from bastide.api.shapes_guests import SnapshotRow
from bastide.model.record import Multiline
from bastide.operations import snapshots
from bastide.operations.ct import snapshot

_SNAPSHOT = ("perm", "/vms/{vmid}", ("VM.Snapshot",))

branch = Branch("/nodes/{node}/lxc/{vmid}/snapshot")

_Name = Annotated[str, Field(max_length=40)]
_Description = Annotated[str | None, Field(max_length=8192), Multiline()]


class SnapshotPath(GuestPath):
    """One snapshot."""

    snapname: _Name


class Described(SnapshotPath):
    """A snapshot, and what is written about it."""

    description: _Description = None


class Delete(SnapshotPath):
    """How it is deleted; with `force` also when a volume keeps its part."""

    force: bool | None = None


class Rollback(SnapshotPath):
    """Whether the container is started afterwards."""

    start: bool | None = None


@branch.get("", GuestPath, check=("perm", "/vms/{vmid}", ("VM.Audit",)), answer=list[SnapshotRow])
async def list_snapshots(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The container's snapshots; the last row is its present state."""
    return snapshots.rows(call.rooms, await call.rooms.guests.get(p.vmid, "lxc"))


@branch.post("", Described, check=_SNAPSHOT)
async def take_snapshot(call: Call, p: Described) -> str:
    """Take a snapshot; a running container stands still for the instant."""
    return str(await snapshot.take_snapshot(call.rooms, call.identity, p.vmid, p.snapname, p.description))


@branch.get("/{snapname}", SnapshotPath, user="all")
async def read_index(_call: Call, _p: SnapshotPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("cmd", "config", "rollback")


@branch.delete("/{snapname}", Delete, check=_SNAPSHOT)
async def delete_snapshot(call: Call, p: Delete) -> str:
    """Delete a snapshot."""
    upid = await snapshot.delete_snapshot(call.rooms, call.identity, p.vmid, p.snapname, force=bool(p.force))
    return str(upid)


@branch.get("/{snapname}/config", SnapshotPath,
            check=("perm", "/vms/{vmid}", ("VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"), "any", 1),
            answer=Options)  # fmt: skip
async def read_config(call: Call, p: SnapshotPath) -> dict[str, Any]:
    """The configuration that the snapshot keeps."""
    return dict(snapshots.shown_config(await call.rooms.guests.get(p.vmid, "lxc"), p.snapname))


@branch.put("/{snapname}/config", Described, check=_SNAPSHOT)
async def describe(call: Call, p: Described) -> None:
    """Change what is written about a snapshot."""
    guest = await call.rooms.guests.get(p.vmid, "lxc")
    await snapshots.describe(call.rooms, call.identity, guest, p.snapname, p.description)


@branch.post("/{snapname}/rollback", Rollback,
             check=("perm", "/vms/{vmid}", ("VM.Snapshot", "VM.Snapshot.Rollback"), "any", 1))  # fmt: skip
async def roll_back(call: Call, p: Rollback) -> str:
    """Stop the container and take it back to a snapshot; with `start` it runs again afterwards."""
    return str(await snapshot.roll_back(call.rooms, call.identity, p.vmid, p.snapname, start=bool(p.start)))
