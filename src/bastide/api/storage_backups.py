"""Backups on a storage: retention. Imports of foreign guests and images are known to clients, and not built (501)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import StoragePath
from bastide.api.routing import Branch, Call
from bastide.api.shapes_storage import PruneRow
from bastide.api.volume_permissions import check_backups
from bastide.base.errors import MethodNotImplemented
from bastide.model.storage import PruneBackups
from bastide.model.types import Vmid
from bastide.operations.backup import prune

_SEE = ("perm", "/storage/{storage}", ("Datastore.Audit", "Datastore.AllocateSpace"), "any", 1)
_PULL = (
    "and",
    ("perm", "/storage/{storage}", ("Datastore.AllocateTemplate",)),
    ("perm", "/nodes/{node}", ("Sys.AccessNetwork",)),
)

branch = Branch("/nodes/{node}/storage")


class Prune(StoragePath):
    """Which backups to look at, and which of them stay."""

    prune_backups: Annotated[PruneBackups | None, Field(alias="prune-backups")] = None
    type: Literal["qemu", "lxc"] | None = None
    vmid: Vmid | None = None


class ImportSource(StoragePath):
    """A guest on a storage of another hypervisor."""

    volume: Annotated[str, Field(min_length=1, max_length=512)]


class RegistryPull(StoragePath):
    """An image of an OCI registry."""

    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]+:\w[\w.-]{0,127}$", max_length=512)]
    filename: Annotated[str | None, Field(min_length=1, max_length=255)] = None


def _unbuilt(method: str, p: StoragePath, what: str) -> MethodNotImplemented:
    return MethodNotImplemented(f"Method '{method} /nodes/{p.node}/storage/{p.storage}/{what}' not implemented")


@branch.get("/{storage}/prunebackups", Prune, check=_SEE, answer=list[PruneRow])
async def preview_prune(call: Call, p: Prune) -> list[dict[str, Any]]:
    """Tell what pruning would do with each backup: `mark` is keep, remove, protected or renamed.

    `rule` (`keep-daily`) is what keeps it. One that goes has a `rule` when that keeps a newer one of the same hour,
    day, week, month or year.
    """
    rows = await prune.preview(call.rooms, p.storage, p.prune_backups, vmid=p.vmid, kind=p.type)
    return [
        {
            "volid": row.volid,
            "ctime": row.ctime,
            "mark": row.mark,
            "type": row.kind or "unknown",
            **({} if row.vmid is None else {"vmid": row.vmid}),
            **({} if row.rule is None else {"rule": row.rule}),
        }
        for row in rows
    ]


@branch.delete("/{storage}/prunebackups", Prune, user="all")
async def prune_backups(call: Call, p: Prune) -> str:
    """Remove backups that the rules do not keep, as a task.

    Needs Datastore.Allocate on the storage; for a single guest Datastore.AllocateSpace and VM.Backup will do.
    """
    await check_backups(call, p.storage, p.vmid)
    upid = await prune.start_prune(call.rooms, call.identity, p.storage, p.prune_backups, vmid=p.vmid, kind=p.type)
    return str(upid)


@branch.get("/{storage}/import-metadata", ImportSource, user="all")
async def read_import(_call: Call, p: ImportSource) -> None:
    """Tell how a foreign guest would be imported: not built."""
    raise _unbuilt("GET", p, "import-metadata")


@branch.post("/{storage}/oci-registry-pull", RegistryPull, check=_PULL)
async def pull_image(_call: Call, p: RegistryPull) -> None:
    """Pull an image from an OCI registry: not built."""
    raise _unbuilt("POST", p, "oci-registry-pull")
