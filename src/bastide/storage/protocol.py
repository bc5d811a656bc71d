"""What a storage plugin is: small protocols and declared capabilities.

A plugin is one file beside this one, known to `registry.py` alone. Callers ask `capabilities`, never the type.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from bastide.host.pipeline import Stage
from bastide.model.backup import DiskExport, Tree, TreeEntry
from bastide.model.storage import (
    Content,
    DiskFormat,
    DiskImage,
    StorageConfig,
    StorageUsage,
    Volume,
    VolumeFormat,
)

Progress = Callable[[float], None]
"""Gets how much of a copy is done, in percent."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a configured storage can do on this very host.

    `contents`: content types it can hold; `container_format`: the format of new container volumes;
    `enforces_size`: whether a container volume cannot outgrow its size; `shared`: seen by all nodes;
    `disk_formats`: the formats of VMs' disks, none when it holds none; `default_disk_format`: the one of a new disk;
    `snapshots`: formats of volumes that a SnapshotStorage can take back in time; `instant`: those of them of which
    nothing is copied for it; `clones`: formats that a CloneStorage makes linked clones of; `copy_on_write`: by what
    means a guest shares its base, in words, None when it is copied; `layered`: whether what a container gets of a base
    is an overlay, on which overlayfs in the guest cannot stand again;
    `latest_only`: whether only the newest snapshot of a volume can be rolled back to;
    `thin`: whether a volume takes space only for what is written; `shrinks`: whether a container's volume can shrink;
    `archives`: whether it is an ArchiveStorage, so that backups are no files in it.
    """

    contents: frozenset[str]
    container_format: VolumeFormat
    enforces_size: bool
    shared: bool
    disk_formats: frozenset[DiskFormat] = frozenset()
    default_disk_format: DiskFormat = "raw"
    snapshots: frozenset[VolumeFormat] = frozenset()
    instant: frozenset[VolumeFormat] = frozenset()
    clones: frozenset[VolumeFormat] = frozenset()
    copy_on_write: str | None = None
    layered: bool = False
    thin: bool = True
    shrinks: bool = False
    latest_only: bool = False
    archives: bool = False


class Storage(Protocol):
    """A configured storage."""

    config: StorageConfig

    @property
    def programs(self) -> Sequence[str]:
        """Programs that the host may lack, and without one of which it stays inactive."""

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


@runtime_checkable
class AttachedStorage(Storage, Protocol):
    """A storage that `prepare` and `usage` attach to this host: a share to mount, a target to log in to."""

    async def detach(self) -> None:
        """Unmount or log out, within some seconds; one that is not attached is fine. Raises WrongState when in use."""


@runtime_checkable
class KeepingStorage(Storage, Protocol):
    """A storage of which this host keeps something elsewhere: caches."""

    async def forget(self) -> None:
        """Remove that: the storage is not configured any more. What lies on it stays."""


class FileStorage(Storage, Protocol):
    """A storage that holds plain files: templates, ISO images, backups, snippets."""

    async def file_path(self, name: str) -> Path:
        """Where a file volume such as `vztmpl/x.tar.zst` lies, or would lie: never outside the storage.

        Raises InvalidParameter, and DeadlineExceeded when the storage hangs.
        """

    def incoming(self, name: str) -> Path:
        """A path on the same file system to write a new file to; `publish` gives it its name."""

    async def publish(self, incoming: Path, name: str) -> Volume:
        """Sync the file and move it under its name in one step. Raises AlreadyExists."""

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a volume's notes (empty: none) and whether it may be removed; None leaves as is. Raises NotFound."""

    async def keep_log(self, name: str, log: str) -> None:
        """Put the log of how a backup was made beside it: `vzdump-lxc-100-2026_11_23-01_02_03.log`; it goes with it."""

    async def checksum(self, name: str) -> str | None:
        """The SHA-256 in hexadecimal that `keep_checksum` wrote down, None without one."""

    async def keep_checksum(self, name: str, digest: str) -> None:
        """Write a file's SHA-256 beside it, as sha256sum(1) reads it; it goes with the file. Raises NotFound."""


class ContainerStorage(Storage, Protocol):
    """A storage that holds containers' file systems."""

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """The name a new volume would have: `100/vm-100-disk-0.subvol` or `.raw`, decided by `size` (0: no limit)."""

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume of `size` bytes. Raises AlreadyExists, NoSpace. Leaves nothing when it fails."""

    async def activate(self, name: str, first_id: int = 0) -> Path:
        """The folder that holds the volume's file system, mounted if it must be. May be called again.

        `first_id` is the host's number of the guest's root. The folder belongs to it, or to 0: then the engine shows
        it with mapped owners.
        """

    async def deactivate(self, name: str) -> None:
        """Unmount what `activate` mounted; a volume that is not active is fine."""

    async def resize(self, name: str, size: int) -> None:
        """Grow a volume to `size` bytes; works while it is active.

        Where `capabilities.shrinks`, a volume that is not active shrinks too, whole or not at all. Raises
        InvalidParameter naming `size` and the smallest possible one, NoSpace.
        """

    async def used(self, name: str) -> int | None:
        """Bytes in use, or None when only a full walk would tell."""


class DiskStorage(Storage, Protocol):
    """A storage that holds VMs' disks. Its files are root's alone: QEMU gets them as open descriptors."""

    def disk_name(self, vmid: int, label: int | str, form: DiskFormat | None = None) -> str:
        """The name of a disk: `100/vm-100-disk-0.qcow2`, or `100/vm-100-cloudinit.raw` for a word as `label`.

        Without a format the storage's default. Raises InvalidParameter.
        """

    async def allocate_disk(self, name: str, size: int) -> None:
        """Make an empty disk of `size` bytes. Raises AlreadyExists, NoSpace, InvalidParameter; leaves nothing then."""

    async def disk_path(self, name: str) -> Path:
        """The file or device to open, never reached through a link. Raises NotFound, InvalidParameter."""

    async def disk_image(self, name: str, snapshot: str | None = None) -> DiskImage:
        """The disk with everything it builds on, or its state at a snapshot, to be read. Raises NotFound."""

    async def resize_disk(self, name: str, size: int) -> None:
        """Grow a disk that nothing has open to `size` bytes; its own size is fine.

        Raises NotFound, InvalidParameter when it would shrink, NotSupported for formats that cannot grow, NoSpace.
        """

    async def import_disk(
        self,
        source: Path | DiskImage,
        source_format: str,
        name: str,
        progress: Progress | None = None,
        *,
        ours: bool = False,
        rate: int = 0,
    ) -> None:
        """Copy an image into a new disk, whose format is its name's; it appears whole or not at all.

        `source_format` may be `raw`, `qcow2`, `vmdk`, `vdi`, `vhdx`, `vpc`. An image from outside has to be what it
        claims; `ours` says that it is a guest's volume, in a raw one of which anything may be written. A DiskImage is
        ours: what `disk_image` of some storage told, copied with all it builds on, or as it was at its snapshot.
        `rate` in bytes a second, 0 for no limit. Raises AlreadyExists, NoSpace, HostFailure when the image is refused.
        """

    async def write_file(self, name: str, data: bytes) -> None:
        """Make a small raw volume with that content, or replace it in one step. Raises NoSpace, HostFailure."""


class SnapshotStorage(Storage, Protocol):
    """A storage that takes volumes back in time; see `capabilities.snapshots`.

    A snapshot is taken of a volume that nobody writes to at the moment: the caller has frozen or stopped the guest.
    """

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep the volume's present state. Raises AlreadyExists, NoSpace; leaves nothing when it fails."""

    async def rollback(self, name: str, snapshot: str) -> None:
        """Give an inactive volume the state that it had, in one step; may be repeated. Raises NotFound."""

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot; one that is gone already is fine. Raises WrongState when a clone builds on it."""

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of a volume, oldest first. Raises NotFound."""

    def reading_snapshot(self, name: str, snapshot: str, first_id: int = 0) -> AbstractAsyncContextManager[Path]:
        """While entered, a folder that shows a container's volume as it was at a snapshot, to be read only.

        Owners are as `activate` has them. Nothing is copied where the storage can do without. Raises NotFound.
        """


class CloneStorage(Storage, Protocol):
    """A storage that makes volumes which hold only what differs from a base; see `capabilities.clones`."""

    async def make_base(self, name: str) -> str:
        """Make an inactive volume a base, which nothing writes to any more; its new name (`base-100-disk-0`).

        Raises WrongState when it has snapshots that the storage cannot keep. May be repeated with the old name.
        """

    def clone_name(self, base: str, vmid: int, number: int, content: Literal["images", "rootdir"]) -> str:
        """The name that a linked clone of the base would have: `BASE/101/vm-101-disk-0.qcow2`.

        `content` tells whether it is a disk or a container's file system, where the base's name does not.
        """

    async def clone(self, base: str, name: str) -> None:
        """Make a linked clone. Raises NotFound, AlreadyExists, NoSpace; leaves nothing when it fails."""

    async def clones_of(self, base: str) -> Sequence[str]:
        """The names of the volumes that build on a base."""

    async def copy(
        self,
        name: str,
        target: str,
        snapshot: str | None = None,
        progress: Progress | None = None,
        *,
        rate: int = 0,
    ) -> None:
        """Copy a volume, or its state at a snapshot, inside the storage: it shares no more than the file system does.

        `rate` in bytes a second, 0 for no limit; what the storage's own tools copy has none. Raises NotFound,
        AlreadyExists, NoSpace; leaves nothing when it fails.
        """


class BaseStorage(Storage, Protocol):
    """A storage that makes guests' volumes from what was unpacked or imported once.

    `key` (16 hexadecimal digits) names a base that belongs to no guest; it is made whole or not at all.
    """

    async def bases(self) -> Sequence[str]:
        """The keys of the bases that are there."""

    def making_base(self, key: str, size: int) -> AbstractAsyncContextManager[Path]:
        """While entered, the folder to fill with a container's file system of at most `size` bytes.

        It becomes a base when the body ends, and nothing when it fails. Raises AlreadyExists, NoSpace.
        """

    async def import_base(
        self, key: str, source: Path, source_format: str, progress: Progress | None = None, *, rate: int = 0
    ) -> None:
        """Make a base of a disk image from outside, checked and limited as in `import_disk`.

        Raises AlreadyExists, NoSpace.
        """

    async def from_base(self, key: str, name: str, size: int) -> None:
        """Make a guest's volume, a container's or a disk, as its name says, with that base and `size` bytes.

        Raises NotFound, AlreadyExists, NoSpace, InvalidParameter when the base is larger; leaves nothing then.
        """

    async def drop_base(self, key: str) -> bool:
        """Remove a base; whether it is gone: one that volumes build on stays."""


@dataclass(frozen=True, slots=True)
class Saving:
    """How a backup is written into an ArchiveStorage.

    `exclude` are Proxmox VE's `exclude-path` patterns: shell globs, from the guest's root on if they begin with `/`, at
    any depth else. `rate` in bytes a second, 0 for no limit. `log` gets lines for the task's log.
    """

    exclude: Sequence[str] = ()
    rate: int = 0
    log: Callable[[str], None] = lambda _line: None


@runtime_checkable
class ArchiveStorage(Storage, Protocol):
    """A storage that keeps backups in a store of its own: see `capabilities.archives`.

    Names are `backup/vzdump-lxc-100-2026_11_23-01_02_03`. `files` are small files kept with the data: the guest's
    configuration under its name in Proxmox VE (`pct.conf`, `qemu-server.conf`).
    """

    async def save_tree(self, name: str, tree: Tree, files: Mapping[str, bytes], saving: Saving) -> None:
        """Keep a container's file system; there whole or not at all. Raises AlreadyExists, NoSpace, HostFailure."""

    async def save_disks(
        self, name: str, disks: Sequence[DiskExport], files: Mapping[str, bytes], saving: Saving
    ) -> None:
        """Keep a VM's disks; they appear whole or not at all. Raises AlreadyExists, NoSpace, HostFailure."""

    async def read_file(self, name: str, file: str) -> bytes:
        """One of `files`. Raises NotFound, HostFailure."""

    async def list_tree(self, name: str, path: str) -> Sequence[TreeEntry]:
        """What a folder of a container's files holds; `path` is relative to its root. Raises NotFound, HostFailure."""

    def reading_tree(self, name: str, paths: Sequence[str] = ()) -> AbstractAsyncContextManager[Stage]:
        """While entered, the process that writes the files as a tar stream: all, or those at and below `paths`.

        Paths and members are relative to the guest's root (`etc/hostname`). Raises NotFound.
        """

    def reading_disks(self, name: str) -> AbstractAsyncContextManager[Mapping[str, Path]]:
        """While entered, files that hold what each disk (`scsi0`) held, to be read at any place. Raises NotFound."""

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a backup's notes (empty: none) and whether it may be removed; None leaves as is. Raises NotFound."""

    async def verify(self, name: str) -> None:
        """Read everything and compare its checksums. Raises HostFailure that says what is damaged, NotFound."""

    async def export_key(self) -> str:
        """The key without which nothing can be read, as text to be kept elsewhere. Raises NotSupported without one."""
