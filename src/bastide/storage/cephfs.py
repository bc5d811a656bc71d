"""The storage type `cephfs`: a folder of a CephFS, laid out as `dir.py` tells; it holds files and no guests."""

from collections.abc import Sequence

from bastide.base.layout import Layout
from bastide.host import network_mounts
from bastide.model.storage import StorageConfig
from bastide.model.types import split_list
from bastide.storage.mounted import MountedStorage


class CephStorage(MountedStorage):
    """A folder of a CephFS, mounted by the kernel's client or by ceph-fuse."""

    filesystems = frozenset({"ceph", "fuse.ceph", "fuse.ceph-fuse"})

    programs: Sequence[str] = ("mount.ceph",)

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        super().__init__(config, layout)
        if config.fuse:
            self.programs = ("ceph-fuse",)

    def command(self) -> list[str]:
        """By mount.ceph, or by ceph-fuse where `fuse` says so."""
        config = self.config
        place = network_mounts.CephPlace(
            monitors=tuple(split_list(config.monhost or "")),
            subdir=config.subdir or "",
            user=config.username or "admin",
            filesystem=config.fs_name,
            secret=self._secret("secret"),
        )
        mount = network_mounts.ceph_fuse if config.fuse else network_mounts.ceph
        return mount(place, self._path, config.options)
