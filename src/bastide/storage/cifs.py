"""The storage type `cifs`: a share of an SMB server, laid out as `dir.py` tells."""

from bastide.host import network_mounts
from bastide.storage.mounted import MountedStorage


class CifsStorage(MountedStorage):
    """A share of an SMB server, or a folder in it."""

    filesystems = frozenset({"cifs", "smb3"})
    programs = ("mount.cifs",)

    def source(self) -> str:
        """`//server/share/subdir`."""
        return network_mounts.cifs_source(self.config.server or "", self.config.share or "", self.config.subdir)

    def command(self) -> list[str]:
        """By mount.cifs; without a user as its guest."""
        config = self.config
        return network_mounts.cifs(
            self.source(),
            self._path,
            self._secret("password") if config.username else None,
            username=config.username,
            domain=config.domain,
            version=config.smbversion,
            options=config.options,
        )
