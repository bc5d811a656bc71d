"""The helper process of `disk_views.py`: it reads disks, and answers the kernel's questions for a FUSE file system."""

import ctypes.util
import errno
import hashlib
import itertools
import json
import os
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bastide.host import syscalls, unix_sockets
from bastide.host.disk_views import SEGMENT, segment_name
from bastide.host.nbd import NbdClient

_AHEAD = 8
_ASKED = 3
_HASHERS = 2
_TIME_BITS = 60
_STILL = 24 * 3600.0  # seconds for which the kernel need not ask again what never changes
_JOINED_PARTS = 8
_ZEROS = bytes(SEGMENT)

Digest = tuple[int, int]
"""Inode number and time of change in ns."""
Entry = tuple[str, Mapping[str, int], int]
"""A name, its kind and number, and a place that nobody uses."""


def digest(data: bytes | bytearray) -> Digest | None:
    """What stands for a content; None for zeros alone. Two contents have the same by chance in 2**-124 of all cases."""
    if data == (_ZEROS if len(data) == SEGMENT else bytes(len(data))):
        return None
    # Processors have instructions for this one, which makes it three times as fast as any other.
    told = hashlib.sha256(data).digest()
    # Small inode numbers are special to some programs, and 0 means that there is none.
    inode = int.from_bytes(told[:8], "big") | 1 << 63
    return inode, int.from_bytes(told[8:16], "big") >> (64 - _TIME_BITS)


class Reader:
    """A disk, read once from its beginning to its end, some segments ahead of who asks, and again where asked anew."""

    def __init__(self, path: str, export: str, size: int, rate: int = 0) -> None:
        self._path, self._export, self.size, self._rate = path, export, size, rate
        self._client = self._connect()
        self._again: NbdClient | None = None
        self.numbers = list(self._with_data())
        self._place = {number: place for place, number in enumerate(self.numbers)}
        self._known: dict[int, Digest | None] = {}
        self._held: OrderedDict[int, bytearray] = OrderedDict()
        self._hashing: dict[int, Future[Digest | None]] = {}
        self._wanted = -1
        self._failure: OSError | None = None
        self._change = threading.Condition()
        self._hashers = ThreadPoolExecutor(_HASHERS)
        self._started = False
        self._reading_again = threading.Lock()

    def length(self, number: int) -> int:
        """Bytes of a segment."""
        return min(SEGMENT, self.size - number * SEGMENT)

    def has(self, number: int) -> bool:
        """Whether a segment may hold something else than zeros."""
        return number in self._place

    def digest(self, number: int) -> Digest | None:
        """What stands for a segment's content, None for zeros. Raises OSError."""
        with self._change:
            self._begin()
            if number not in self._known and self._place[number] >= self._wanted:
                self._wanted = self._place[number]
                self._change.notify_all()
                self._change.wait_for(lambda: number in self._hashing or number in self._known or self._failure)
                if self._failure is not None:
                    raise OSError(self._failure.errno or errno.EIO, "the disk cannot be read")
            waiting = self._hashing.get(number)
            if waiting is None and number in self._known:
                return self._known[number]
        if waiting is None:
            self._known[number] = digest(self.content(number))
            return self._known[number]
        found = waiting.result()
        with self._change:
            self._known[number] = found
            self._hashing.pop(number, None)
            self._drop(before=self._place[number])
        return found

    def content(self, number: int) -> bytes | bytearray:
        """A segment's bytes. Raises OSError."""
        with self._change:
            held = self._held.get(number)
        if held is not None:
            return held
        with self._reading_again:
            if self._again is None:
                self._again = self._connect()
            data = self._again.read(number * SEGMENT, self.length(number))
        with self._change:
            self._held[number] = bytearray(data)
            self._drop(before=self._place[number])
        return data

    def _connect(self) -> NbdClient:
        connected = unix_sockets.connect(Path(self._path))
        connected.setblocking(True)
        client = NbdClient(connected, self._export)
        if client.size < self.size:
            raise OSError(errno.EINVAL, "the disk is shorter than it was told")
        return client

    def _with_data(self) -> Iterator[int]:
        """The numbers of the segments that are not known to be zeros."""
        offset, last = 0, -1
        while offset < self.size:
            for length, zero in self._client.block_status(offset, self.size - offset):
                if not zero:
                    first, end = offset // SEGMENT, (offset + length - 1) // SEGMENT
                    yield from range(max(first, last + 1), end + 1)
                    last = max(last, end)
                offset += length

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._read, name="read", daemon=True).start()

    def _read(self) -> None:
        try:
            began, done = time.monotonic(), 0
            buffers = ((number, bytearray(self.length(number))) for number in self._numbers_in_time())
            kept, asked = itertools.tee(buffers)
            parts = ((number * SEGMENT, memoryview(buffer)) for number, buffer in asked)
            for (number, buffer), view in zip(kept, self._client.reads(parts, _ASKED), strict=True):
                view.release()
                with self._change:
                    self._held[number] = buffer
                    self._hashing[number] = self._hashers.submit(digest, buffer)
                    self._change.notify_all()
                done += len(buffer)
                if self._rate:
                    time.sleep(max(0.0, began + done / self._rate - time.monotonic()))
        except OSError as error:
            print(f"the disk cannot be read: {error}", file=sys.stderr, flush=True)
            with self._change:
                self._failure = error
                self._change.notify_all()

    def _numbers_in_time(self) -> Iterator[int]:
        """The segments in their order, each when those who ask are near."""
        for place, number in enumerate(self.numbers):
            with self._change:
                self._change.wait_for(lambda place=place: place <= self._wanted + _AHEAD)  # type: ignore[misc]
            yield number

    def _drop(self, before: int) -> None:
        """Let go of what has been passed by, all but what was asked for last."""
        for number in [one for one in self._held if self._place[one] < before]:
            del self._held[number]


_FOLDER = {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2, "st_uid": 0, "st_gid": 0, "st_ino": 1}
_FILE = {"st_mode": stat.S_IFREG | 0o400, "st_nlink": 1, "st_uid": 0, "st_gid": 0}
_TIMES = ("st_mtime", "st_ctime", "st_atime")


def _listed(names: Iterable[str], kind: Mapping[str, int]) -> Iterator[Entry]:
    # One without a number is none to the C library.
    yield from ((name, {"st_mode": _FOLDER["st_mode"], "st_ino": 1}, 0) for name in (".", ".."))
    yield from ((name, {"st_mode": kind["st_mode"], "st_ino": number}, 0) for number, name in enumerate(names, 2))


class _View:
    """What both file systems have in common."""

    use_ns = True

    def __init__(self, *, direct: bool) -> None:
        self._direct = direct

    def init_with_config(self, _connection: Any, config: Any) -> None:
        """Set what is the program's to say, and tell that the file system answers."""
        config.use_ino = 1
        config.direct_io = int(self._direct)
        config.kernel_cache = int(not self._direct)
        config.attr_timeout = config.entry_timeout = config.negative_timeout = _STILL
        os.write(1, b"ready\n")


class Segments(_View):
    """Folders of segments, one for each disk."""

    def __init__(self, disks: Mapping[str, Reader]) -> None:
        super().__init__(direct=True)
        self._disks = disks

    def _found(self, path: str) -> tuple[Reader, int]:
        key, _, name = path.strip("/").partition("/")
        try:
            reader, number = self._disks[key], int(name, 16)
        except (KeyError, ValueError):
            raise FileNotFoundError(errno.ENOENT, path) from None
        if not reader.has(number) or name != segment_name(number):
            raise FileNotFoundError(errno.ENOENT, path)
        return reader, number

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, Any]:
        """Attributes; of a segment when it has been read."""
        if path == "/" or path.strip("/") in self._disks:
            number = 1 if path == "/" else 2 + list(self._disks).index(path.strip("/"))
            return {**_FOLDER, **dict.fromkeys(_TIMES, 0), "st_ino": number}
        reader, number = self._found(path)
        found = reader.digest(number)
        if found is None:
            return {**_FILE, "st_size": 0, "st_ino": 1 << 62 | number, **dict.fromkeys(_TIMES, 0)}
        return {**_FILE, "st_size": reader.length(number), "st_ino": found[0], **dict.fromkeys(_TIMES, found[1])}

    def readdir(self, path: str, _fh: int) -> Iterator[Entry]:
        """Names, numbered in the order in which they are read the fastest: borg goes by that."""
        if path == "/":
            return _listed(self._disks, _FOLDER)
        return _listed(map(segment_name, self._disks[path.strip("/")].numbers), _FILE)

    def read(self, path: str, size: int, offset: int, _fh: int) -> bytes:
        """Bytes of a segment."""
        reader, number = self._found(path)
        if reader.digest(number) is None:
            return b""
        return bytes(memoryview(reader.content(number))[offset : offset + size])


class Joined(_View):
    """A file for each disk.

    A stranger may have written what the segments' folders hold: what is no file of a segment's size there is an error.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        super().__init__(direct=False)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        above = os.open(folder, flags)
        self._folders = {key: os.open(key, flags, dir_fd=above) for key in sizes}
        self._sizes = sizes
        self._held: OrderedDict[tuple[str, int], bytes | None] = OrderedDict()
        self._turn = threading.Lock()

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, Any]:
        """Attributes."""
        if path == "/":
            return {**_FOLDER, **dict.fromkeys(_TIMES, 0)}
        key = path.strip("/")
        if key not in self._sizes:
            raise FileNotFoundError(errno.ENOENT, path)
        number = list(self._sizes).index(key) + 2
        return {**_FILE, "st_size": self._sizes[key], "st_ino": number, **dict.fromkeys(_TIMES, 0)}

    def readdir(self, _path: str, _fh: int) -> Iterator[Entry]:
        """Names."""
        return _listed(self._sizes, _FILE)

    def read(self, path: str, size: int, offset: int, _fh: int) -> bytes:
        """Bytes of a disk."""
        key = path.strip("/")
        end = min(offset + size, self._sizes[key])
        parts = []
        while offset < end:
            number, at = divmod(offset, SEGMENT)
            length = min(SEGMENT - at, end - offset)
            content = self._segment(key, number)
            part = b"" if content is None else content[at : at + length]
            parts.append(part + bytes(length - len(part)))
            offset += length
        return b"".join(parts)

    def _segment(self, key: str, number: int) -> bytes | None:
        with self._turn:
            if (key, number) not in self._held:
                self._held[key, number] = self._content(key, number)
                while len(self._held) > _JOINED_PARTS:
                    self._held.popitem(last=False)
            self._held.move_to_end((key, number))
            return self._held[key, number]

    def _content(self, key: str, number: int) -> bytes | None:
        folder, name = self._folders[key], segment_name(number)
        try:
            told = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(told.st_mode) or told.st_size > SEGMENT:
            raise OSError(errno.EIO, f"'{key}/{name}' is no segment of a disk")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
            return file.read(SEGMENT) or None


def _view(kind: str, told: Mapping[str, Any]) -> _View:
    if kind == "joined":
        return Joined(Path(told["folder"]), {key: int(size) for key, size in told["sizes"].items()})
    disks = told["disks"].items()
    return Segments(
        {key: Reader(disk["socket"], disk["export"], int(disk["size"]), told["rate"]) for key, disk in disks}
    )


def main() -> None:
    """Do what the arguments say: the daemon's process id, which kind, what to show as JSON, the mount point."""
    parent, kind, told, target = sys.argv[1:]
    try:
        syscalls.die_with_parent()
        if os.getppid() != int(parent):
            raise OSError(errno.ESRCH, "the daemon has ended")
        view = _view(kind, json.loads(told))
        # By itself it would take libfuse 2, which numbers files itself.
        os.environ["FUSE_LIBRARY_PATH"] = ctypes.util.find_library("fuse3") or "libfuse3.so.3"
        import mfusepy  # type: ignore[import-untyped]  # noqa: PLC0415 - it loads libfuse, which only this needs

        mfusepy.FUSE(
            view, target, foreground=True, nothreads=False, ro=True, allow_other=True, default_permissions=True,
            fsname=f"bastide-{kind}",
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
