"""What backups on a storage will offer, and imports from elsewhere: known to clients, and not built (501)."""

from typing import Annotated, Literal

from pydantic import Field

from bastide.api.fields import StoragePath
from bastide.api.routing import Branch, Call
from bastide.base.errors import MethodNotImplemented
from bastide.model.storage import PruneBackups
from bastide.model.types import Vmid

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


class InBackup(StoragePath):
    """A place in a backup, its path in base64."""

    volume: Annotated[str, Field(min_length=1, max_length=512)]
    filepath: Annotated[str, Field(min_length=1, max_length=8192)]


class FromBackup(InBackup):
    """A file or folder of a backup."""

    tar: bool | None = None


class ImportSource(StoragePath):
    """A guest on a storage of another hypervisor."""

    volume: Annotated[str, Field(min_length=1, max_length=512)]


class RegistryPull(StoragePath):
    """An image of an OCI registry."""

    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]+:\w[\w.-]{0,127}$", max_length=512)]
    filename: Annotated[str | None, Field(min_length=1, max_length=255)] = None


def _unbuilt(method: str, p: StoragePath, what: str) -> MethodNotImplemented:
    return MethodNotImplemented(f"Method '{method} /nodes/{p.node}/storage/{p.storage}/{what}' not implemented")


@branch.get("/{storage}/prunebackups", Prune, check=_SEE)
async def preview_prune(_call: Call, p: Prune) -> None:
    """Tell which backups would go: not built."""
    raise _unbuilt("GET", p, "prunebackups")


@branch.delete("/{storage}/prunebackups", Prune, user="all")
async def prune(_call: Call, p: Prune) -> None:
    """Remove old backups: not built."""
    raise _unbuilt("DELETE", p, "prunebackups")


@branch.get("/{storage}/file-restore/list", InBackup, user="all")
async def list_in_backup(_call: Call, p: InBackup) -> None:
    """List a folder of a backup: not built."""
    raise _unbuilt("GET", p, "file-restore/list")


@branch.get("/{storage}/file-restore/download", FromBackup, user="all")
async def download_from_backup(_call: Call, p: FromBackup) -> None:
    """Fetch a file of a backup: not built."""
    raise _unbuilt("GET", p, "file-restore/download")


@branch.get("/{storage}/import-metadata", ImportSource, user="all")
async def read_import(_call: Call, p: ImportSource) -> None:
    """Tell how a foreign guest would be imported: not built."""
    raise _unbuilt("GET", p, "import-metadata")


@branch.post("/{storage}/oci-registry-pull", RegistryPull, check=_PULL)
async def pull_image(_call: Call, p: RegistryPull) -> None:
    """Pull an image from an OCI registry: not built."""
    raise _unbuilt("POST", p, "oci-registry-pull")
