"""A share whose server is the kernel's own memory: mounted, missing and let go as those of other machines are."""

from pathlib import Path

from bastide.base.layout import Layout
from bastide.model.storage import StorageConfig
from bastide.storage.mounted import MountedStorage


class TmpfsShare(MountedStorage):
    """A MountedStorage by another tool. `reachable` and `slow` are the server's state."""

    filesystems = frozenset({"tmpfs"})
    reachable = True
    slow = False

    @classmethod
    def below(cls, root: Path, name: str = "nas", content: str = "iso,images,rootdir") -> "TmpfsShare":
        """One that is mounted below a folder of the test's."""
        values = {"storage": name, "type": "nfs", "server": "nas", "export": "/x", "content": content}
        return cls(StorageConfig.parse(values), Layout(root))

    def command(self) -> list[str]:
        """By mount(8) with a size of 64 MiB."""
        if self.slow:
            return ["sleep", "30"]
        if not self.reachable:
            return ["false"]
        return ["mount", "-t", "tmpfs", "-o", "size=64m,nosuid,nodev", "share", str(self._path)]
