"""The storage type `nfs`: an export of an NFS server, laid out as `dir.py` tells."""

from bastide.host import network_mounts
from bastide.storage.mounted import MountedStorage


class NfsStorage(MountedStorage):
    """An export of an NFS server."""

    filesystems = frozenset({"nfs", "nfs4"})
    programs = ("mount.nfs",)

    def source(self) -> str:
        """`server:/export`."""
        return network_mounts.nfs_source(self.config.server or "", self.config.export or "")

    def command(self) -> list[str]:
        """By mount.nfs."""
        return network_mounts.nfs(self.source(), self._path, self.config.options)
