"""btrfs: subvolumes, their snapshots, and limits on them where quotas are enabled.

Sources: btrfs-subvolume(8), btrfs-ioctl(2), /usr/include/linux/btrfs.h; the files below /sys/fs/btrfs/UUID/qgroups.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from bastide.host.filesystems import translated

_SUBVOL_CREATE = 0x5000940E
_SNAP_DESTROY = 0x5000940F
_INO_LOOKUP = 0xD0009412
_SNAP_CREATE_V2 = 0x50009417
_SUBVOL_SETFLAGS = 0x4008941A
_FS_INFO = 0x8400941F
_QGROUP_LIMIT = 0x8030942B
_READ_ONLY = 2
_ROOT_INODE = 256
_LIMIT_REFERENCED = 1
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_NOCOW = 0x00800000
_ARGUMENTS = struct.Struct("=q4088s")  # struct btrfs_ioctl_vol_args
_ARGUMENTS_V2 = struct.Struct("=qQQ32x4040s")  # struct btrfs_ioctl_vol_args_v2
_LIMIT = struct.Struct("=QQQQQQ")  # struct btrfs_ioctl_qgroup_limit_args: the group, flags, the most of four kinds


def is_btrfs(folder: Path) -> bool:
    """Whether a folder lies on btrfs. It is asked, so it may hang when the file system does."""
    try:
        with _opened(folder) as descriptor:
            _tree(descriptor)
    except OSError:
        return False
    return True


def is_subvolume(folder: Path) -> bool:
    """Whether a folder is the root of a subvolume."""
    try:
        return folder.lstat().st_ino == _ROOT_INODE and is_btrfs(folder)
    except OSError:
        return False


def create(folder: Path) -> None:
    """Make an empty subvolume, mode 0755. Raises HostFailure, NoSpace."""
    with translated(f"make the subvolume {folder}"), _opened(folder.parent) as parent:
        _ask(parent, _SUBVOL_CREATE, _ARGUMENTS.pack(0, _name(folder)))
        folder.chmod(0o755)


def snapshot(source: Path, target: Path, *, read_only: bool = False) -> None:
    """Make a subvolume that has what `source` has at this moment and shares its blocks. Raises HostFailure, NoSpace.

    What is written to `source` before is in it.
    """
    with translated(f"take a snapshot of {source}"), _opened(source) as origin, _opened(target.parent) as parent:
        flags = _READ_ONLY if read_only else 0
        _ask(parent, _SNAP_CREATE_V2, _ARGUMENTS_V2.pack(origin, 0, flags, _name(target)))


def delete(folder: Path) -> bool:
    """Remove a subvolume; False when that cannot be done at once: it holds others, or is none. Raises HostFailure."""
    with translated(f"remove the subvolume {folder}"):
        try:
            with _opened(folder.parent) as parent:
                _ask(parent, _SNAP_DESTROY, _ARGUMENTS.pack(0, _name(folder)))
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EINVAL, errno.EPERM, errno.ENOTDIR, errno.ENOTTY):
                return False
            raise
    return True


def make_writable(folder: Path) -> None:
    """Let a subvolume that was read-only be written to. Raises HostFailure."""
    with translated(f"open the subvolume {folder}"), _opened(folder) as descriptor:
        fcntl.ioctl(descriptor, _SUBVOL_SETFLAGS, struct.pack("=Q", 0))


def quotas(folder: Path) -> Path | None:
    """The folder in sysfs of the quota groups of the file system that a folder is on, None when it has none enabled."""
    try:
        with _opened(folder) as descriptor:
            told = fcntl.ioctl(descriptor, _FS_INFO, bytes(1024))
    except OSError:
        return None
    groups = Path(f"/sys/fs/btrfs/{UUID(bytes=told[16:32])}/qgroups")
    return groups if groups.is_dir() else None


def set_limit(folder: Path, size: int) -> None:
    """Limit a subvolume to `size` bytes (0: no limit), where quotas are enabled. Raises HostFailure."""
    with translated(f"limit the size of {folder}"), _opened(folder) as descriptor:
        most = size or 2**64 - 1  # all ones: no limit
        fcntl.ioctl(descriptor, _QGROUP_LIMIT, _LIMIT.pack(_tree(descriptor), _LIMIT_REFERENCED, most, 0, 0, 0))


def used(folder: Path, groups: Path) -> tuple[int, int] | None:
    """Bytes that a subvolume refers to and bytes that are its own, as of its last commit; None when not counted."""
    try:
        with _opened(folder) as descriptor:
            group = groups / f"0_{_tree(descriptor)}"
        return int((group / "referenced").read_text()), int((group / "exclusive").read_text())
    except (OSError, ValueError):
        return None


def forgo_copies(folder: Path) -> None:
    """Let new files in a folder be written in place: faster, without checksums, not shared. Raises HostFailure."""
    with translated(f"set the attributes of {folder}"), _opened(folder) as descriptor:
        flags = struct.unpack("=q", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("=q", flags | _NOCOW))


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tree(descriptor: int) -> int:
    """The id of the subvolume that an open folder lies in."""
    asked = struct.pack("=QQ4080x", 0, _ROOT_INODE)
    tree: int = struct.unpack_from("=Q", _ask(descriptor, _INO_LOOKUP, asked))[0]
    return tree


def _ask(descriptor: int, command: int, argument: bytes) -> bytes:
    buffer = bytearray(argument)  # fcntl.ioctl takes no immutable argument beyond 1024 bytes
    fcntl.ioctl(descriptor, command, buffer)
    return bytes(buffer)


def _name(folder: Path) -> bytes:
    return os.fsencode(folder.name)
