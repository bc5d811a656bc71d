"""What a storage plugin is: small protocols and declared capabilities.

A plugin is one file beside this one, known to `registry.py` alone. Callers ask `capabilities`, never the type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bastide.model.storage import Content, StorageConfig, StorageUsage, Volume, VolumeFormat


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a configured storage can do on this very host.

    `contents`: content types it can hold; `container_format`: the format of new container volumes;
    `enforces_size`: whether a container volume cannot outgrow its size; `shared`: seen by all nodes.
    """

    contents: frozenset[str]
    container_format: VolumeFormat
    enforces_size: bool
    shared: bool


class Storage(Protocol):
    """A configured storage."""

    config: StorageConfig

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    async def prepare(self) -> None:
        """Make what it needs (folders). Raises HostFailure."""

    async def usage(self) -> StorageUsage:
        """Space, within 10 s even when the storage hangs (then inactive)."""

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes."""

    async def info(self, name: str) -> Volume:
        """One volume by its name. Raises NotFound."""

    async def delete(self, name: str) -> None:
        """Remove a volume of any content; one that is gone already is fine."""


class FileStorage(Storage, Protocol):
    """A storage that holds plain files: templates, ISO images, backups, snippets."""

    def path(self, name: str) -> Path:
        """Where a file volume such as `vztmpl/x.tar.zst` lies. Raises InvalidParameter, never leaves the storage."""

    def incoming(self, name: str) -> Path:
        """A path on the same file system to write a new file to; `publish` gives it its name."""

    async def publish(self, incoming: Path, name: str) -> Volume:
        """Sync the file and move it under its name in one step. Raises AlreadyExists."""

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a volume's notes (empty: none) and whether it may be removed; None leaves as is. Raises NotFound."""


class ContainerStorage(Storage, Protocol):
    """A storage that holds containers' file systems."""

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """The name a new volume would have: `100/vm-100-disk-0.subvol` or `.raw`, decided by `size` (0: no limit)."""

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume of `size` bytes. Raises AlreadyExists, NoSpace. Leaves nothing when it fails."""

    async def activate(self, name: str) -> Path:
        """The folder that holds the volume's file system, mounted if it must be. May be called again."""

    async def deactivate(self, name: str) -> None:
        """Unmount what `activate` mounted; a volume that is not active is fine."""

    async def resize(self, name: str, size: int) -> None:
        """Grow a volume to `size` bytes; works while it is active."""

    async def used(self, name: str) -> int | None:
        """Bytes in use, or None when only a full walk would tell."""
