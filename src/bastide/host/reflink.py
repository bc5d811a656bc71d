"""Copies of files that share blocks, copies that keep holes, and file systems that stand still for a moment.

Sources: ioctl_ficlone(2), copy_file_range(2), lseek(2) for SEEK_DATA, /usr/include/linux/fs.h for FIFREEZE and FITHAW,
the kernel's Documentation/filesystems/fiemap.rst.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.filesystems import translated

_FICLONE = 0x40049409
_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878
_FIEMAP = 0xC020660B
_MAP = struct.Struct("=QQIIII")  # start, length, flags, mapped extents, room for extents, reserved
_EXTENT = struct.Struct("=QQQ16xI12x")  # logical, physical, length, flags
_EXTENT_LAST, _EXTENT_SHARED = 0x1, 0x2000
_EXTENTS = 512
_MOST_EXTENTS = 64 * _EXTENTS
_CHUNK = 64 * 1024 * 1024
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})

Progress = Callable[[float], None]
"""Gets how much of a copy is done, in percent."""


def supported(folder: Path) -> bool:
    """Whether files in a folder can share blocks; tried with two small files. Raises HostFailure."""
    names = [folder / f".reflink-{secrets.token_hex(4)}" for _ in range(2)]
    with translated(f"try {folder}"):
        try:
            with _new(names[0]) as source, _new(names[1]) as target:
                os.write(source, b"x")
                return _clone(source, target)
        finally:
            for name in names:
                name.unlink(missing_ok=True)


def copy(source: Path, target: Path, progress: Progress | None = None, *, rate: int = 0) -> None:
    """Copy a file: by shared blocks where that works, else what is no hole. `target` must not exist.

    `rate` in bytes a second (0: no limit) is for what is not shared. Raises NoSpace, HostFailure; the caller removes
    the target then. The copy survives power loss.
    """
    with translated(f"copy {source.name}"):
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with _new(target) as copied:
                if not _clone(descriptor, copied):
                    _copy_data(descriptor, copied, progress, rate)
                os.fsync(copied)
        finally:
            os.close(descriptor)


async def copied(source: Path, target: Path, progress: Progress | None = None, *, rate: int = 0) -> None:
    """The same beside other work. Whatever happens, also when it is cancelled, no part of the target stays behind."""
    if os.path.lexists(target):
        raise HostFailure(f"could not copy {source.name}: {target.name} exists")
    ended = threading.Event()

    def tell(percent: float) -> None:
        if ended.is_set():
            raise HostFailure("the copy was cancelled")
        if progress is not None:
            progress(percent)

    working = asyncio.ensure_future(asyncio.to_thread(lambda: copy(source, target, tell, rate=rate)))
    try:
        await asyncio.shield(working)
    except BaseException:
        ended.set()
        await asyncio.wait([working])
        target.unlink(missing_ok=True)
        raise
    if progress is not None:
        progress(100.0)


def own_bytes(path: Path) -> int:
    """Bytes of a file's blocks that it shares with no other; of a very scattered file, of all. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        shared = place = seen = 0
        while seen < _MOST_EXTENTS:
            room = bytearray(_MAP.pack(place, 2**64 - 1 - place, 0, 0, _EXTENTS, 0)) + bytes(_EXTENT.size * _EXTENTS)
            try:
                fcntl.ioctl(descriptor, _FIEMAP, room)
            except OSError as error:
                if error.errno in _CANNOT:
                    break
                raise
            count = _MAP.unpack_from(room)[3]
            found = [_EXTENT.unpack_from(room, _MAP.size + _EXTENT.size * number) for number in range(count)]
            shared += sum(length for _, _, length, flags in found if flags & _EXTENT_SHARED)
            if not found or found[-1][3] & _EXTENT_LAST:
                break
            place, seen = found[-1][0] + found[-1][2], seen + count
        else:
            shared = 0
        return max(0, os.fstat(descriptor).st_blocks * 512 - shared)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def frozen(mounted: Path) -> Iterator[None]:
    """Let the file system mounted at a folder stand still, whole on its device. It is thawed whatever happens.

    One that is frozen already, or cannot be, is left alone; then its state is what a power loss would leave.
    """
    descriptor = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.ioctl(descriptor, _FIFREEZE, 0)
        except OSError as error:
            if error.errno not in (*_CANNOT, errno.EBUSY):
                raise
            os.fsync(descriptor)
            yield
            return
        try:
            yield
        finally:
            fcntl.ioctl(descriptor, _FITHAW, 0)
    finally:
        os.close(descriptor)


def thaw(mounted: Path) -> bool:
    """Undo what a killed process had frozen; whether the file system was."""
    descriptor = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _FITHAW, 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _new(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _copy_data(source: int, target: int, progress: Progress | None, rate: int) -> None:
    length = os.fstat(source).st_size
    os.ftruncate(target, length)
    part = min(_CHUNK, max(4096, rate // 4)) if rate else _CHUNK
    began, total = time.monotonic(), 0
    for start, end in _extents(source, length):
        place = start
        while place < end:
            copied = os.copy_file_range(source, target, min(end - place, part), place, place)
            if copied == 0:
                break  # the source became shorter
            place, total = place + copied, total + copied
            if progress is not None:
                progress(100.0 * place / length)
            if rate:
                time.sleep(max(0.0, began + total / rate - time.monotonic()))


def _extents(descriptor: int, length: int) -> Iterator[tuple[int, int]]:
    """Where a file holds data, as (start, end)."""
    place = 0
    while place < length:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        place = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, place
