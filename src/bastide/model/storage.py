"""Storages and volumes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bastide.model.record import Record
from bastide.model.types import StorageId

Content = Literal["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"]
VolumeFormat = Literal[
    "raw", "qcow2", "subvol", "vmdk", "vdi", "vhdx", "iso", "txz", "tgz", "tzst", "tbz", "snippet"
]  # fmt: skip
DiskFormat = Literal["raw", "qcow2", "vmdk"]
"""What a VM's disk can be."""


class StorageConfig(Record):
    """One configured storage, in Proxmox VE's keys (`storage.cfg`). Keys of types not built yet are refused."""

    storage: StorageId
    type: Literal["dir"]
    path: Annotated[str, Field(pattern=r"^/[^,\x00-\x1f]*$", max_length=4096)]
    content: Annotated[str, Field(pattern=r"^[a-z]+([,; ][a-z]+)*$")] = "images,rootdir"
    nodes: str | None = None
    disable: bool = False
    shared: bool = False
    format: Literal["raw", "subvol", "qcow2", "vmdk"] | None = None
    mkdir: bool = True
    create_base_path: Annotated[bool, Field(alias="create-base-path")] = True
    create_subdirs: Annotated[bool, Field(alias="create-subdirs")] = True
    is_mountpoint: str | None = None
    preallocation: Literal["off", "metadata", "falloc", "full"] | None = None
    prune_backups: Annotated[str | None, Field(alias="prune-backups")] = None
    bwlimit: str | None = None

    @property
    def contents(self) -> frozenset[str]:
        """The content types as a set."""
        return frozenset(self.content.replace(";", ",").replace(" ", ",").split(",")) - {"", "none"}


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """Space of a storage in bytes. `active` is false when it cannot be reached; then the figures are 0."""

    active: bool
    total: int
    used: int
    available: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume on a storage, in bytes and seconds since the epoch."""

    volid: str
    content: Content
    format: VolumeFormat
    size: int
    used: int | None = None
    ctime: int | None = None
    vmid: int | None = None
    notes: str | None = None
    protected: bool = False
