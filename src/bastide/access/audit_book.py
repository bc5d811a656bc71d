"""A series of files to which whole lines are appended: the newest, and older ones by number.

`refused.jsonl` is written, `refused.1.jsonl` was before it, and so on; what is older than the last is gone. A line is
in the file whole or not at all.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path


class Book:
    """`name`.jsonl in a folder: at most `kept` files of at most `size` bytes. Used by one thread; reading by any."""

    def __init__(self, folder: Path, name: str, *, size: int, kept: int) -> None:
        self._folder = folder
        self._name = name
        self._size = size
        self._kept = kept
        self._handle = -1
        self._inode = 0
        self._written = 0

    def begin(self) -> None:
        """Open the file, so that a line needs no descriptor. Raises OSError."""
        if self._handle < 0:
            self._open()

    def append(self, line: bytes) -> None:
        """Write a line, its newline included. Raises OSError; nothing of the line is in the file then."""
        if self._handle >= 0 and not self._is_there():
            self.close()
        self.begin()
        if self._written and self._written + len(line) > self._size:
            self._turn()
        done = os.write(self._handle, line)
        if done != len(line):
            os.ftruncate(self._handle, self._written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += done

    def newest_first(self) -> Iterator[bytes]:
        """The lines, the last one first. Files that go meanwhile are passed over; a line may come twice then."""
        for number in range(self._kept):
            try:
                lines = self._path(number).read_bytes().split(b"\n")
            except OSError:
                continue
            yield from filter(None, reversed(lines))

    def duplicate(self) -> int | None:
        """A descriptor of the file that is written, for fdatasync(2); the caller closes it."""
        return os.dup(self._handle) if self._handle >= 0 else None

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def _path(self, number: int) -> Path:
        return self._folder / (f"{self._name}.{number}.jsonl" if number else f"{self._name}.jsonl")

    def _is_there(self) -> bool:
        """Whether the file still has its name: logrotate(8) and people move logs away."""
        try:
            return self._path(0).stat().st_ino == self._inode
        except OSError:
            return False

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle = os.open(self._path(0), flags, 0o600)
        found = os.fstat(self._handle)
        self._inode, self._written = found.st_ino, found.st_size
        if self._written and os.pread(self._handle, 1, self._written - 1) != b"\n":
            # A loss of power tore the last line: what follows begins one of its own.
            self._written += os.write(self._handle, b"\n")

    def _turn(self) -> None:
        for number in reversed(range(self._kept - 1)):
            if self._path(number).exists():
                self._path(number).replace(self._path(number + 1))
        self.close()
        self._open()
