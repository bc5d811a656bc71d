"""A helper process that reads or writes one file of a guest, as the guest's own root and confined to its root folder.

`guestroot.py` starts it with descriptors of a running guest's root and user namespace; it joins the namespace, so that
the kernel grants it what the guest's root may do and nothing more: no file of a bind mount that the guest could not
read, no setting in /proc. A stopped guest's root is a folder of its own on a storage, which it opens as the host's
root. Its arguments: ROOT (descriptor), NAMESPACE (descriptor or `-`), then `read PATH` or `write PATH MODE UID GID
SIZE` with `-` for what is not given. It speaks on its standard streams:

* reading: a line of JSON (size, mode, uid, gid), then the content;
* writing: it takes chunks, each behind its length in four bytes, as the last one an empty one; then a line of JSON.
  Input that ends without the empty chunk leaves nothing behind;
* a failure is a line of JSON (error, message) and the exit code 1.

Sources: user_namespaces(7), setns(2), statfs(2) for the numbers of file systems.
"""

import contextlib
import ctypes
import json
import os
import secrets
import signal
import stat
import sys
from typing import Any, NamedTuple, NoReturn

from bastide.base.errors import BastideError, HostFailure, NoSpace, NotFound, WrongState
from bastide.host import syscalls
from bastide.host.rootdir import RootDir

_CHUNK = 256 * 1024
_CHUNK_LIMIT = 16 * 1024 * 1024
_LINKS = 8
_PLAIN = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xCA451A4E,  # bcachefs
        0x2FC12FC1,  # zfs
        0xF2F52010,  # f2fs
        0x794C7630,  # overlay
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x4D44,  # fat
        0x9660,  # iso9660
        0x73717368,  # squashfs
        0xE0F5E1E2,  # erofs
        0x6969,  # nfs
        0xFE534D42,  # smb2
        0x00C36400,  # ceph
        0x01021997,  # 9p
        0x6A656A63,  # virtiofs
        0x65735546,  # fuse
    }
)


def enter(namespace: int) -> None:
    """Become root of a user namespace, for good."""
    syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.set_no_new_privileges()


def read(root: RootDir, path: str) -> None:
    """Write a file's facts and content to standard output."""
    with root.open(path, os.O_PATH) as found:
        _check_plain(found, path)
        with root.open(path, os.O_RDONLY) as descriptor:
            _check_plain(descriptor, path)
            facts = os.fstat(descriptor)
            _say(_facts(root, facts))
            left = facts.st_size
            while left and (chunk := os.read(descriptor, min(_CHUNK, left))):
                sys.stdout.buffer.write(chunk)
                left -= len(chunk)
            sys.stdout.buffer.flush()
    if left:
        raise HostFailure(f"'{path}' became shorter while it was read")


class Asked(NamedTuple):
    """What a written file shall be. None keeps what the replaced file had, or is 0644 and root's; `size` in bytes."""

    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None


def write(root: RootDir, path: str, asked: Asked) -> None:
    """Write standard input's chunks to a file: beside it first, then in its place in one step.

    A link in its place is followed inside the root.
    """
    folder, name = _resolve(root, path)
    with root.open(folder, os.O_DIRECTORY | os.O_RDONLY) as parent:
        before = _replaceable(parent, name, path)
        _check_plain(parent, path, folder=True)
        _check_space(parent, asked.size or 0, path)
        temporary = f".{name[:200]}.{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with syscalls.acting_as(root.owner):
            descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
        try:
            _take(descriptor, path)
            mode, uid, gid = (0o644, 0, 0)
            if before is not None:
                mode, uid, gid = stat.S_IMODE(before.st_mode), before.st_uid - root.owner, before.st_gid - root.owner
            uid, gid = (uid if asked.uid is None else asked.uid), (gid if asked.gid is None else asked.gid)
            os.fchown(descriptor, root.owner + uid, root.owner + gid)
            # A change of owner takes setuid bits away, so the mode comes after it.
            os.fchmod(descriptor, mode if asked.mode is None else asked.mode)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            _say(_facts(root, os.fstat(descriptor)))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)


def _resolve(root: RootDir, path: str) -> tuple[str, str]:
    """The folder and the name that a path leads to, links in the last component followed."""
    for _ in range(_LINKS):
        folder, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", "..") or path.endswith("/"):
            raise HostFailure(f"'{path}' in the guest does not name a file")
        target = root.readlink(path)
        if target is None:
            return folder or "/", name
        path = target if target.startswith("/") else f"{folder}/{target}"
    raise HostFailure(f"'{path}' in the guest: too many links")


def _replaceable(parent: int, name: str, path: str) -> os.stat_result | None:
    """The plain file that lies there, or None. Raises HostFailure for anything else."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise HostFailure(f"'{path}' in the guest is a folder: name the file in it")
    if not stat.S_ISREG(found.st_mode):
        raise HostFailure(f"'{path}' in the guest is not a plain file")
    return found


def _check_plain(descriptor: int, path: str, *, folder: bool = False) -> None:
    """Raise HostFailure unless it is a plain file (or folder) on a file system that holds files."""
    found = os.fstat(descriptor).st_mode
    if not folder and not stat.S_ISREG(found):
        what = "a folder" if stat.S_ISDIR(found) else "not a plain file"
        raise HostFailure(f"'{path}' in the guest is {what}")
    # struct statfs begins with the type, a word, on every architecture that Linux still has but s390.
    buffer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).fstatfs(descriptor, buffer) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs")
    kind = ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF
    if kind not in _PLAIN:
        raise HostFailure(f"'{path}' in the guest lies on a file system of the kernel's")


def _check_space(descriptor: int, wanted: int, path: str) -> None:
    free = os.fstatvfs(descriptor)
    if free.f_bavail * free.f_frsize < max(wanted, 1):
        raise NoSpace(f"cannot write '{path}' in the guest: no space left")


def _take(descriptor: int, path: str) -> None:
    """Copy standard input's chunks to the file. Raises WrongState when it ends before the last one."""
    source = sys.stdin.buffer
    since = 0
    while True:
        head = source.read(4)
        if len(head) < 4:
            raise WrongState("the transfer was broken off")
        length = int.from_bytes(head, "big")
        if length == 0:
            return
        if length > _CHUNK_LIMIT:
            raise WrongState("a chunk is too long")
        data = memoryview(source.read(length))
        since += len(data)
        while data:
            data = data[os.write(descriptor, data) :]
        if since > _CHUNK_LIMIT:
            # The host's root may fill the blocks that are reserved for it; a guest's file shall not.
            _check_space(descriptor, 0, path)
            since = 0


def _facts(root: RootDir, found: os.stat_result) -> dict[str, Any]:
    return {
        "size": found.st_size,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "uid": found.st_uid - root.owner,
        "gid": found.st_gid - root.owner,
    }


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise WrongState("the transfer was broken off")


def _number(text: str, base: int = 10) -> int | None:
    return None if text == "-" else int(text, base)


def main() -> None:
    """Do what the arguments say."""
    signal.signal(signal.SIGTERM, _terminated)
    root, namespace, what, path, *rest = sys.argv[1:]
    code = 1
    try:
        if namespace != "-":
            enter(int(namespace))
        os.umask(0o077)
        with RootDir(int(root), 0 if namespace != "-" else None) as folder:
            if what == "read":
                read(folder, path)
            else:
                mode, uid, gid, size = rest
                write(folder, path, Asked(_number(mode, 8), _number(uid), _number(gid), _number(size)))
        code = 0
    except (NotFound, NoSpace, HostFailure, WrongState) as error:
        _say({"error": type(error).__name__, "message": str(error)})
    except BastideError as error:
        _say({"error": "HostFailure", "message": str(error)})
    except BrokenPipeError:
        pass
    except OSError as error:
        full = error.errno in (28, 122)  # ENOSPC, EDQUOT
        name = "NoSpace" if full else "HostFailure"
        _say({"error": name, "message": f"cannot use '{path}' in the guest: {error.strerror}"})
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
