"""A FUSE file system over a folder that records what is written, and what a loss of power would have left of it.

    with Recorded.mounted(tmp_path) as place:
        ...                                     # work below place.folder
        trace = place.trace()
    for disk in losses(trace, random.Random(1)):
        disk.rebuild(folder)

What a file holds is durable once it has been synced after it was written, a name once its folder has been; no more than
POSIX promises. Of the rest each prefix is a possible loss, and any part of it: writes are torn at 512 bytes, and go
missing or arrive in whatever order.
"""

import contextlib
import os
import pickle
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.fuse import served

SECTOR = 512

Names = dict[str, int]
"""The files by their paths, each a number of its own."""


@dataclass(frozen=True, slots=True)
class Act:
    """What was done: `kind` is write, truncate, fsync (of the file `file`), name, rename, unlink, fsyncdir."""

    kind: str
    path: str
    file: int = 0
    offset: int = 0
    data: bytes = b""
    target: str = ""


class Recorded:
    """`folder` is mounted, what is written to it lies in `behind`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "recorded"
        self.behind = root / "behind"
        self._trace = root / "trace"

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, root: Path) -> Iterator["Recorded"]:
        """An empty one, gone in the end."""
        place = cls(root)
        place._trace.touch()
        with served(__file__, place.behind, place.folder, place._trace, lambda: None):
            yield place

    @property
    def length(self) -> int:
        """How far the record has come: what was done before is below it (bytes of the record, see `trace`)."""
        return self._trace.stat().st_size

    def trace(self) -> list[tuple[int, Act]]:
        """All that was done, each with the record's length after it."""
        found: list[tuple[int, Act]] = []
        with self._trace.open("rb") as file:
            while True:
                try:
                    act = pickle.load(file)
                except EOFError:
                    return found
                found.append((file.tell(), act))


@dataclass(slots=True)
class Disk:
    """What lies on the disk: the files' names, and their contents."""

    names: Names = field(default_factory=dict)
    contents: dict[int, bytearray] = field(default_factory=dict)

    def copy(self) -> "Disk":
        """One that is changed apart."""
        return Disk(dict(self.names), {file: bytearray(data) for file, data in self.contents.items()})

    def apply(self, act: Act) -> None:
        """Let it have happened."""
        if act.kind == "name":
            self.names[act.path] = act.file
        elif act.kind == "unlink":
            self.names.pop(act.path, None)
        elif act.kind == "rename" and act.path in self.names:
            self.names[act.target] = self.names.pop(act.path)
        elif act.kind in ("write", "truncate"):
            held = self.contents.setdefault(act.file, bytearray())
            end = act.offset + len(act.data)
            if act.kind == "truncate":
                del held[act.offset :]
            if len(held) < end:
                held.extend(bytes(end - len(held)))
            held[act.offset : end] = act.data

    def rebuild(self, folder: Path) -> None:
        """Write the files to an empty folder."""
        for path, file in self.names.items():
            (folder / path.lstrip("/")).write_bytes(self.contents.get(file, b""))


def losses(trace: Sequence[Act], chance: random.Random, parts: int = 2) -> Iterator[tuple[int, Disk]]:
    """What a loss of power may leave, with how many acts had been done: every prefix of what was not synced, for all
    times right before something was, and `parts` random parts of it each."""
    durable, pending = Disk(), list[Act]()
    for number, act in enumerate(trace):
        if not act.kind.startswith("fsync"):
            pending.append(act)
            continue
        yield from _left(number, durable, pending, chance, parts)
        for done in [done for done in pending if _settles(act, done)]:
            durable.apply(done)
            pending.remove(done)
    yield from _left(len(trace), durable, pending, chance, parts)


def _left(
    number: int, durable: Disk, pending: Sequence[Act], chance: random.Random, parts: int
) -> Iterator[tuple[int, Disk]]:
    disk = durable.copy()
    yield number, disk.copy()
    for act in pending:
        disk.apply(act)
        yield number, disk.copy()
    for _ in range(parts if pending else 0):
        disk = durable.copy()
        pieces = [piece for act in pending for piece in _torn(act)]
        kept = chance.random()
        pieces = [piece for piece in pieces if chance.random() < kept]
        # Names go through a journal, in order; blocks are written whenever it suits.
        names = [piece for piece in pieces if piece.kind not in ("write", "truncate")]
        blocks = [piece for piece in pieces if piece.kind in ("write", "truncate")]
        for piece in (*names, *blocks):
            disk.apply(piece)
        yield number, disk


def _settles(sync: Act, act: Act) -> bool:
    if sync.kind == "fsync":
        return act.kind in ("write", "truncate") and act.file == sync.file
    folder = sync.path.rstrip("/")
    return act.kind in ("name", "unlink", "rename") and os.path.dirname(act.path).rstrip("/") == folder


def _torn(act: Act) -> Iterator[Act]:
    """A write as the disk does it, sector by sector."""
    if act.kind != "write":
        yield act
        return
    place, end = act.offset, act.offset + len(act.data)
    while place < end:
        until = min(end, place - place % SECTOR + SECTOR)
        yield Act("write", act.path, act.file, place, act.data[place - act.offset : until - act.offset])
        place = until


_ATTRIBUTES = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")


class Recorder:
    """The operations of libfuse that a database uses, each written down once it has been done."""

    use_ns = True

    def __init__(self, behind: str, trace: str) -> None:
        self._behind = behind
        self._trace = open(trace, "ab", buffering=0)  # noqa: SIM115 - as long as the process
        self._numbers: dict[str, int] = {}
        self._open: dict[int, int] = {}
        self._count = 0

    def _done(self, act: Act) -> int:
        self._trace.write(pickle.dumps(act))
        return 0

    def _opened(self, path: str, flags: int, mode: int = 0o600) -> int:
        handle = os.open(self._behind + path, flags, mode)
        if path not in self._numbers:
            self._count += 1
            self._numbers[path] = self._count
            self._done(Act("name", path, self._count))
        self._open[handle] = self._numbers[path]
        return handle

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._behind + path) if fh is None else os.fstat(fh)
        return {key: getattr(found, key) for key in _ATTRIBUTES}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._behind + path)]

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._behind + path, mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self._behind + path, uid, gid)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self._opened(path, os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return self._opened(path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        written = os.pwrite(fh, data, offset)
        self._done(Act("write", path, self._open[fh], offset, bytes(data[:written])))
        return written

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._behind + path, length)
        file = self._open[fh] if fh is not None else self._numbers[path]
        return self._done(Act("truncate", path, file, length))

    def unlink(self, path: str) -> int:
        os.unlink(self._behind + path)
        self._numbers.pop(path, None)
        return self._done(Act("unlink", path))

    def rename(self, old: str, new: str) -> int:
        os.rename(self._behind + old, self._behind + new)
        self._numbers[new] = self._numbers.pop(old)
        return self._done(Act("rename", old, target=new))

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return self._done(Act("fsync", path, self._open[fh]))

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        return self._done(Act("fsyncdir", path))

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        os.close(fh)
        return 0


def _serve(behind: str, folder: str, trace: str) -> None:
    import mfusepy  # noqa: PLC0415 - needs libfuse, which the tests' own process does not

    # One thread, so that what is written down came in that order.
    mfusepy.FUSE(Recorder(behind, trace), folder, foreground=True, nothreads=True)


if __name__ == "__main__":
    # Read by the tests under the module's own name.
    from framework.power import _serve as serve

    serve(*sys.argv[1:4])
