"""File systems in files, for tests of what only some of them can do: ext4, XFS with reflink, btrfs."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bastide.base.units import MIB

_MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
}


class Disposable:
    """Makes each file system when it is first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._mounted: dict[str, Path] = {}

    def on(self, kind: str) -> Path:
        """Where the file system of that kind is mounted; tests make folders of their own in it."""
        if kind not in self._mounted:
            self._mounted[kind] = self._stack.enter_context(mounted(kind, self._folder))
        return self._mounted[kind]


@contextmanager
def mounted(kind: str, folder: Path, size: int = 600 * MIB) -> Iterator[Path]:
    """A new file system of `size` bytes in a sparse file, mounted in `folder` while entered. Takes some 50 ms."""
    image, target = folder / f"{kind}.img", folder / kind
    with image.open("wb") as file:
        file.truncate(size)
    target.mkdir()
    subprocess.run([*_MAKERS[kind], str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-t", kind, "-o", "loop", str(image), str(target)], check=True)
    try:
        yield target
    finally:
        if subprocess.run(["umount", str(target)], check=False).returncode != 0:
            subprocess.run(["umount", "-l", str(target)], check=True)
            raise AssertionError(f"a test uses something below {target} still")
        image.unlink()
        target.rmdir()
