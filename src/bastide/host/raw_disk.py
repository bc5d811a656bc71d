"""A raw disk, a file or a block device, written through an open descriptor, with the calls of `NbdClient`.

Sources: fallocate(2), fstatvfs(3).
"""

import ctypes
import errno
import os
import stat

from bastide.base.units import GIB, MIB

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_LOOK_EVERY = 64 * MIB
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class RawDisk:
    """One that is open for writing; `size` in bytes. It stays the caller's to close."""

    read_only = False

    def __init__(self, descriptor: int) -> None:
        """Raises OSError."""
        self._descriptor = descriptor
        self.size = os.lseek(descriptor, 0, os.SEEK_END)
        self._device = stat.S_ISBLK(os.fstat(descriptor).st_mode)
        self._unseen = _LOOK_EVERY

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write where the disk is. Raises OSError, ENOSPC before the file system is full that guests write to."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"{len(data)} bytes at {offset} of a disk of {self.size} bytes")
        self._unseen += len(data)
        if self._unseen >= _LOOK_EVERY and not self._device:
            self._look()
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, offset)
            view, offset = view[done:], offset + done

    def write_zeroes(self, offset: int, length: int) -> None:
        """Have a part read as zeros, as a hole where there can be some. Raises OSError."""
        if offset < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} of a disk of {self.size} bytes")
        if _libc.fallocate(self._descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
            return
        # A device whose sectors are larger or that cannot, or a file system without holes.
        zeros = memoryview(bytes(min(length, MIB)))
        for at in range(0, length, len(zeros)):
            self.write(offset + at, zeros[: length - at])

    def flush(self) -> None:
        """Return when all that was written is on stable storage. Raises OSError."""
        os.fdatasync(self._descriptor)

    def _look(self) -> None:
        figures = os.fstatvfs(self._descriptor)
        reserve = min(GIB, figures.f_blocks * figures.f_frsize // 20)
        if figures.f_bavail * figures.f_frsize < reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unseen = 0
