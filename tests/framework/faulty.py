"""A FUSE file system over a folder whose writes or reads fail when they are told to, as a broken or full disk's do.

with Faulty.mounted(tmp_path) as place:
    place.fail(3, errno.EIO)        # the fourth change from now on, and all after it until `work`
    ...
    place.work()
    assert place.failed
    place.fail_reads(2)             # the third read of a file from now on, and all after it until `work`, with EIO
"""

import contextlib
import errno
import mmap
import os
import stat
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from framework.fuse import served
from framework.hanging import PassingOn

_CONTROL = struct.Struct("=qqqq")  # changes until one fails (below 0: none), how many fail, errno, changes so far
_READS = struct.Struct("=q")  # behind it: reads until all fail (below 0: none)
_LENGTH = _CONTROL.size + _READS.size
ALL = 1 << 60


class Faulty:
    """`folder` is mounted, what is written to it lies in `behind`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "faulty"
        self.behind = root / "behind"
        control = root / "control"
        control.write_bytes(_CONTROL.pack(-1, 0, 0, 0) + _READS.pack(-1))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _LENGTH)
        self._last = 0

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, root: Path) -> Iterator["Faulty"]:
        """One that works; it works again and is gone in the end."""
        place = cls(root)
        with served(__file__, place.behind, place.folder, root / "control", place.work):
            yield place

    def fail(self, after: int, error: int, times: int = ALL) -> None:
        """After that many changes from now on, let `times` of them fail with `error`.

        A full disk (ENOSPC) refuses only those that make or write something.
        """
        _CONTROL.pack_into(self._control, 0, after, times, error, 0)
        self._last = times

    def fail_reads(self, after: int) -> None:
        """After that many reads of files from now on, let all fail with EIO; what is cached is not read."""
        _READS.pack_into(self._control, _CONTROL.size, after)

    def work(self) -> None:
        """Let nothing fail from now on."""
        _CONTROL.pack_into(self._control, 0, -1, self._left, 0, self.changes)
        _READS.pack_into(self._control, _CONTROL.size, -1)

    @property
    def _left(self) -> int:
        return int(_CONTROL.unpack_from(self._control)[1])

    @property
    def changes(self) -> int:
        """How many changes there were since `fail`."""
        return int(_CONTROL.unpack_from(self._control)[3])

    @property
    def failed(self) -> bool:
        """Whether one was refused since `fail`."""
        return self._left < self._last


class PassingSome(PassingOn):
    """The operations of libfuse that storages use; each that changes something may fail."""

    def __init__(self, behind: str, control: str) -> None:
        super().__init__(behind, os.devnull + "/never")
        with open(control, "r+b") as file:
            self._control = mmap.mmap(file.fileno(), _LENGTH)
        self._turn = threading.Lock()

    def _changing(self, *, adding: bool = False) -> None:
        with self._turn:
            after, times, error, changes = _CONTROL.unpack_from(self._control)
            failing = after == 0 and times > 0 and (adding or error != errno.ENOSPC)
            after, times = (max(after - 1, 0) if after >= 0 else after), times - failing
            _CONTROL.pack_into(self._control, 0, after, times, error, changes + 1)
        if failing:
            raise OSError(error, os.strerror(error))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._turn:
            (after,) = _READS.unpack_from(self._control, _CONTROL.size)
            if after > 0:
                _READS.pack_into(self._control, _CONTROL.size, after - 1)
        if after == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(path, size, offset, fh)

    def mkdir(self, path: str, mode: int) -> int:
        self._changing(adding=True)
        return super().mkdir(path, mode)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        self._changing(adding=True)
        if not stat.S_ISREG(mode):
            raise PermissionError
        os.mknod(self._at(path), mode, dev)
        return 0

    def rmdir(self, path: str) -> int:
        self._changing()
        return super().rmdir(path)

    def unlink(self, path: str) -> int:
        self._changing()
        return super().unlink(path)

    def symlink(self, path: str, target: str) -> int:
        self._changing(adding=True)
        os.symlink(target, self._at(path))
        return 0

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self._at(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> int:
        if times is not None and not stat.S_ISLNK(os.lstat(self._at(path)).st_mode):
            os.utime(self._at(path), ns=(int(times[0]), int(times[1])))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._changing()
        return super().rename(old, new)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._changing(adding=True)
        return super().create(path, mode, fi)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._changing(adding=True)
        return super().write(path, data, offset, fh)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._changing()
        if fh is not None:
            os.ftruncate(fh, length)
            return 0
        return super().truncate(path, length)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._changing()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._changing()
        return 0


def _serve(behind: str, folder: str, control: str) -> None:
    import mfusepy  # noqa: PLC0415 - needs libfuse, which the tests' own process does not

    # qemu-img runs as another user.
    mfusepy.FUSE(PassingSome(behind, control), folder, foreground=True, nothreads=False, allow_other=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:4])
