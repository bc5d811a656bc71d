"""A FUSE file system over a folder that stops answering when it is told to, as a server that has gone does.

with Hanging.mounted(tmp_path) as place:
    (place.folder / "x").mkdir()
    place.hang()
    place.answer()
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from framework.fuse import served


class Hanging:
    """`folder` is mounted, what is written to it lies in `behind`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "hanging"
        self.behind = root / "behind"
        self._flag = root / "hang"

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, root: Path) -> Iterator["Hanging"]:
        """One that answers; it answers again and is gone in the end, so that nothing waits for it."""
        place = cls(root)
        with served(__file__, place.behind, place.folder, place._flag, place.answer):
            yield place

    def hang(self) -> None:
        """Answer nothing from now on, neither new questions nor those that wait."""
        self._flag.touch()

    def answer(self) -> None:
        """Answer again."""
        self._flag.unlink(missing_ok=True)


_ATTRIBUTES = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")
_FIGURES = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_namemax")


class PassingOn:
    """The operations of libfuse that a storage uses, each on the folder behind, once it may answer."""

    use_ns = True

    def __init__(self, behind: str, flag: str) -> None:
        self._behind = behind
        self._flag = flag

    def _at(self, path: str) -> str:
        while os.path.exists(self._flag):
            time.sleep(0.02)
        assert path.startswith("/")
        return self._behind + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._at(path))
        return {key: getattr(found, key) for key in _ATTRIBUTES}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {key: getattr(found, key) for key in _FIGURES}

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._at(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._at(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._at(path))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._at(path), mode)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._at(old), self._at(new))
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._at(path)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._at(path)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._at(path), length)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


def _serve(behind: str, folder: str, flag: str) -> None:
    import mfusepy  # noqa: PLC0415 - needs libfuse, which the tests' own process does not

    mfusepy.FUSE(PassingOn(behind, flag), folder, foreground=True, nothreads=False)


if __name__ == "__main__":
    _serve(*sys.argv[1:4])
