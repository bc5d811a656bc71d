"""System calls that Python 3.11 does not offer, through libc's `syscall(2)`. Every failure is an OSError.

Sources: openat2(2), open_tree(2), move_mount(2), mount_setattr(2), mount(2), umount2(2), pivot_root(2), setns(2),
unshare(2), pidfd_send_signal(2), renameat2(2). Numbers above 423 are the same on every architecture.
"""

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Iterable, Iterator

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_IDMAP = 0x100000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_REMOUNT = 32
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MOUNT_OPTIONS = {
    "ro": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
    "noatime": MOUNT_ATTR_NOATIME,
}

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# openat2 says EAGAIN when a rename raced with the look-up of a `..`.
_RACE_RETRIES = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    """`struct open_how` of linux/openat2.h."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _MountAttr(ctypes.Structure):
    """`struct mount_attr` of linux/mount.h."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def _check(result: int, what: str = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what or None)
    return result


def _bytes(path: str | os.PathLike[str]) -> bytes:
    return os.fsencode(path)


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` below the directory descriptor; returns a descriptor that is closed at exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for _ in range(_RACE_RETRIES):
        result = _libc.syscall(_SYS_OPENAT2, directory, _bytes(path), ctypes.byref(how), size)
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(result, path)


def open_tree(
    path: str | os.PathLike[str], *, directory: int = _AT_FDCWD, clone: bool = True, recursive: bool = False
) -> int:
    """A descriptor of the mount at `path`; with `clone` a detached copy of it. An empty path means `directory`."""
    flags = os.O_CLOEXEC | (OPEN_TREE_CLONE if clone else 0) | (AT_RECURSIVE if recursive else 0)
    if not os.fspath(path):
        flags |= AT_EMPTY_PATH
    return _check(_libc.syscall(_SYS_OPEN_TREE, directory, _bytes(path), flags), os.fspath(path))


def move_mount(tree: int, path: str | os.PathLike[str], *, directory: int = _AT_FDCWD) -> None:
    """Attach a detached mount at `path`, or at the open folder `directory` when the path is empty."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if os.fspath(path) else MOVE_MOUNT_T_EMPTY_PATH)
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", directory, _bytes(path), flags), os.fspath(path))


def mount_setattr(tree: int, *, set_flags: int = 0, user_namespace: int | None = None, recursive: bool = False) -> None:
    """Set attributes of an open mount; with `user_namespace` (a descriptor) its owners are mapped by it."""
    if user_namespace is not None:
        set_flags |= MOUNT_ATTR_IDMAP
    attr = _MountAttr(set_flags, 0, 0, user_namespace or 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), size), "mount_setattr")


def mount(source: str, target: str | os.PathLike[str], kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(), _bytes(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
        ),
        os.fspath(target),
    )


def unmount(target: str | os.PathLike[str], flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_bytes(target), flags), os.fspath(target))


def sync_filesystem(folder: str | os.PathLike[str]) -> None:
    """syncfs(2) of the file system that a folder lies on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(descriptor), os.fspath(folder))
    finally:
        os.close(descriptor)


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> None:
    """Let two files or folders of one file system take each other's place in one step (renameat2(2))."""
    _check(
        _libc.renameat2(_AT_FDCWD, _bytes(one), _AT_FDCWD, _bytes(other), ctypes.c_uint(_RENAME_EXCHANGE)),
        os.fspath(other),
    )


def unshare(flags: int) -> None:
    """unshare(2) of the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2) of the calling thread: `kind` is a CLONE_NEW* flag, or several with a pidfd."""
    _check(_libc.setns(descriptor, kind), "setns")


def pivot_into(path: str) -> None:
    """Make the mount at `path` the root of this mount namespace and let go of the old root (pivot_root(2))."""
    os.chdir(path)
    number = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "i686": 217, "armv7l": 218}[os.uname().machine]
    _check(_libc.syscall(number, b".", b"."), path)
    unmount(".", MNT_DETACH)
    os.chdir("/")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG); kept over execve(2)."""
    _check(_libc.prctl(1, int(signal.SIGKILL), 0, 0, 0), "prctl")


def set_no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS of prctl(2): no later exec gains rights."""
    _check(_libc.prctl(38, 1, 0, 0, 0), "prctl")


def drop_bounding_set() -> None:
    """PR_CAPBSET_DROP of prctl(2) for every capability that this kernel knows: no exec gains any of them again."""
    for number in range(64):
        try:
            _check(_libc.prctl(24, number, 0, 0, 0), "prctl")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return


def act_as(uid: int) -> None:
    """Let the calling thread make files as user and group `uid`, its capabilities kept: for a thread that ends soon.

    setfsuid(2) is the thread's alone; SECBIT_NO_SETUID_FIXUP (capabilities(7)) keeps the rights over files.
    """
    keep = _check(_libc.prctl(27, 0, 0, 0, 0), "prctl") | 4  # PR_GET_SECUREBITS
    _check(_libc.prctl(28, keep, 0, 0, 0), "prctl")
    _libc.setfsgid(uid)
    _libc.setfsuid(uid)


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """The same while entered. On a mount with mapped owners nobody without a number there can make a file."""
    if uid == 0:
        yield
        return
    before = _check(_libc.prctl(27, 0, 0, 0, 0), "prctl")
    act_as(uid)
    try:
        yield
    finally:
        act_as(0)
        _check(_libc.prctl(28, before, 0, 0, 0), "prctl")


def attribute_flags(names: Iterable[str]) -> int:
    """The mount_setattr(2) flags of mount options; options that concern the file system as a whole count for none."""
    flags = 0
    for name in names:
        flags |= _MOUNT_OPTIONS.get(name, 0)
    return flags
