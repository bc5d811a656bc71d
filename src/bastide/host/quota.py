"""Project quotas: a limit on a folder's tree, where the file system is mounted with `prjquota`.

Sources: quotactl(2), ioctl_xfs_fsgetxattr(2), /usr/include/linux/{fs,quota,dqblk_xfs}.h. ext4 (features `quota`,
`project`) and xfs answer the same generic calls.
"""

import ctypes
import fcntl
import os
import struct
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.filesystems import MountEntry, failure, mount_over

_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
_FSXATTR = struct.Struct("=IIIII8s")  # xflags, extsize, nextents, projid, cowextsize, padding
_XFLAG_PROJINHERIT = 0x200
_DQBLK = struct.Struct("=8QI4x")  # block hard, soft, now (bytes), inode hard, soft, now, two times, valid
_PRJQUOTA = 2
_Q_GETQUOTA = (0x800007 << 8) | _PRJQUOTA
_Q_SETQUOTA = (0x800008 << 8) | _PRJQUOTA
_VALID_BLOCK_LIMITS = 1
_BLOCK = 1024  # limits are counted in KiB
_OURS = 0x4000_0000
"""Our project ids have this bit, away from the small numbers that administrators and other tools give out."""


def quota_mount(real: Path) -> MountEntry | None:
    """The mount that a folder lies on, if it enforces project quotas. The path has no links in it."""
    entry = mount_over(real)
    if entry is None or entry.fstype not in ("ext4", "xfs", "f2fs"):
        return None
    return entry if entry.options & {"prjquota", "pquota"} else None


def set_limit(folder: Path, size: int) -> None:
    """Limit an empty folder's tree to `size` bytes (0: no limit); a folder that has a project keeps it.

    Raises HostFailure when the file system does not enforce project quotas.
    """
    entry = quota_mount(folder.resolve())
    if entry is None:
        raise HostFailure(f"the file system of {folder} is not mounted with prjquota")
    try:
        project = _project(folder) or _assign(folder, entry)
        blocks = -(-size // _BLOCK)
        limits = _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _VALID_BLOCK_LIMITS)
        _quotactl(_Q_SETQUOTA, entry.source, project, limits)
    except OSError as error:
        raise failure(error, f"limit the size of {folder}") from error


def usage(folder: Path, entry: MountEntry) -> tuple[int, int] | None:
    """Bytes used by a folder's project on a mount with quotas, and its limit (0: none); None without a project."""
    try:
        project = _project(folder)
        if project == 0:
            return None
        values = _DQBLK.unpack(_quotactl(_Q_GETQUOTA, entry.source, project, bytes(_DQBLK.size)))
    except OSError as error:
        raise failure(error, f"read the quota of {folder}") from error
    return values[2], values[0] * _BLOCK


def _assign(folder: Path, entry: MountEntry) -> int:
    # The inode number is unique on the file system while the folder lives; xfs numbers may be wider than 30 bits,
    # and a removed folder's limit may still be there, so an id in use is passed over.
    project = _OURS | (folder.stat().st_ino & (_OURS - 1))
    while _in_use(entry.source, project):
        project = _OURS | ((project + 1) & (_OURS - 1))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        xflags, extsize, nextents, _, cowextsize, padding = _FSXATTR.unpack(
            fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
        )
        changed = _FSXATTR.pack(xflags | _XFLAG_PROJINHERIT, extsize, nextents, project, cowextsize, padding)
        fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, changed)
    finally:
        os.close(descriptor)
    return project


def _in_use(device: str, project: int) -> bool:
    try:
        used: int = _DQBLK.unpack(_quotactl(_Q_GETQUOTA, device, project, bytes(_DQBLK.size)))[2]
    except (FileNotFoundError, ProcessLookupError):  # xfs says ENOENT, the generic quotas ESRCH
        return False
    return used > 0


def _project(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    finally:
        os.close(descriptor)
    project: int = _FSXATTR.unpack(answer)[3]
    return project


def _quotactl(command: int, device: str, project: int, data: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(data, len(data))
    libc = ctypes.CDLL(None, use_errno=True)
    # The command's type is int: the value is beyond 2^31 and has to be handed over as the same 32 bits.
    if libc.quotactl(ctypes.c_int(command), os.fsencode(device), ctypes.c_uint(project), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), device)
    return buffer.raw
