"""A helper process that confines a command to a guest's file tree and one range of ids.

`idmap.py` starts it as `python -I -S -c ... DAEMON WORK ARGV...`, WORK being a `Work` as JSON. The command runs as root
of a user namespace with the ids `first` .. `first + count - 1`, in a root of its own that holds nothing but the host's
programs, read-only, and the trees. A tree's further folders are mounted by their places in it, which are found with
RESOLVE_IN_ROOT: no link of a guest's leads out of it. Whatever the command is fed with, it cannot touch another file of
the host, make a device node or gain a right there. It ends with the process DAEMON.

Sources: user_namespaces(7), mount_setattr(2), openat2(2), pivot_root(2).
"""

import errno
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bastide.host import syscalls

_PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What mount_setattr says when the file system, or a mount below it, knows no mapped owners.
_NO_MAPPING = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class Shown:
    """A tree that the command sees at `/NAME`: a folder, and others by their places in it, those above first.

    What is not `writable` is mounted read-only, and its places have to be there; else missing folders are made.
    """

    name: str
    folder: str
    mounts: Sequence[tuple[str, str]] = ()
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """The range of ids, the trees, and `prefix`: a descriptor of what to write to standard output at first."""

    first: int
    count: int
    trees: Sequence[Shown]
    prefix: int | None = None

    def to_json(self) -> str:
        """The form that the helper reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Work":
        """Read `to_json`."""
        raw = json.loads(text)
        return cls(raw["first"], raw["count"], [Shown(**item) for item in raw["trees"]], raw["prefix"])


def user_namespace(first: int, count: int) -> int:
    """A descriptor of a new user namespace whose ids 0.. are `first`.. outside."""
    ready, tell = os.pipe()
    ended, keep = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(keep)
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(tell, b"1")
            os.read(ended, 1)  # until this process's parent has closed its end, also by being killed
        finally:
            os._exit(1)
    os.close(tell)
    os.close(ended)
    try:
        if os.read(ready, 1) != b"1":
            raise OSError(errno.EPERM, "this kernel allows no user namespaces")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {first} {count}\n")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(keep)
        os.waitpid(pid, 0)


def run(parent: int, work: Work, argv: list[str]) -> None:
    """Run a command confined to its trees that ends with the process `parent`; returns only by an error."""
    _end_with(parent)
    namespace = user_namespace(work.first, work.count)
    roots = {shown.name: _opened(shown.folder, namespace, work.first, shown) for shown in work.trees}
    further = {
        (shown.name, place): _opened(folder, namespace, work.first, shown)
        for shown in work.trees
        for place, folder in shown.mounts
    }
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    new_root("/tmp", roots)  # noqa: S108 - a mount point in this process's own namespace; nothing is written to it
    for shown in work.trees:
        for place, _ in shown.mounts:
            first = work.first if shown.writable else None
            _attach(further[shown.name, place], f"/tmp/{shown.name}", place, first)  # noqa: S108 - as above
    syscalls.pivot_into("/tmp")  # noqa: S108 - in a mount namespace of its own
    syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
    for descriptor in (namespace, *roots.values(), *further.values()):
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.set_no_new_privileges()
    _end_with(parent)  # again: changing the user takes it away
    os.umask(0o022)
    if work.prefix is not None:
        _write_first(work.prefix)
    os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})  # noqa: S606 - a list


def _end_with(parent: int) -> None:
    """Without its daemon the command would go on writing into a volume that recovery removes."""
    syscalls.die_with_parent()
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon has ended")


def _opened(folder: str, namespace: int, first: int, shown: Shown) -> int:
    """A detached mount of a folder, its owners mapped, or its root given to the map's first id where that cannot be."""
    tree = syscalls.open_tree(folder)
    try:
        if first and os.fstat(tree).st_uid != first:
            syscalls.mount_setattr(tree, user_namespace=namespace)
    except OSError as error:
        if error.errno not in _NO_MAPPING or not shown.writable:
            raise
        os.chown(tree, first, first)
    if not shown.writable:
        syscalls.mount_setattr(tree, set_flags=syscalls.MOUNT_ATTR_RDONLY)
    return tree


def _attach(tree: int, root: str, place: str, owner: int | None) -> None:
    """Mount a tree at its place in a root; folders that lack are made for `owner`, unless that is None."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if owner is not None:
            _make_folders(top, place, owner)
        folder = syscalls.openat2(top, place.strip("/"), os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
    except OSError as error:
        raise OSError(error.errno, f"the folder '{place}' that a volume is mounted at: {error.strerror}") from None
    finally:
        os.close(top)
    try:
        syscalls.move_mount(tree, "", directory=folder)
    finally:
        os.close(folder)


def _make_folders(top: int, place: str, owner: int) -> None:
    above = os.dup(top)
    path = ""
    for name in place.strip("/").split("/"):
        path = f"{path}/{name}".lstrip("/")
        try:
            folder = syscalls.openat2(top, path, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
        except FileNotFoundError:
            with syscalls.acting_as(owner):
                os.mkdir(name, 0o755, dir_fd=above)
            folder = syscalls.openat2(top, path, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
        os.close(above)
        above = folder
    os.close(above)


def _write_first(descriptor: int) -> None:
    """Copy a descriptor's content to standard output, from its beginning whatever was read of it."""
    offset = 0
    while part := os.pread(descriptor, 65536, offset):
        offset += os.write(1, part)
    os.close(descriptor)


def new_root(place: str, trees: Mapping[str, int]) -> None:
    """Mount a root at `place` with the host's programs, /dev/null, and detached mounts of folders or files by name."""
    root = Path(place)
    host = {name: os.readlink(f"/{name}") for name in _PROGRAMS if os.path.islink(f"/{name}")}
    folders = ["usr", *(name for name in _PROGRAMS if os.path.isdir(f"/{name}") and name not in host)]
    copies = {name: syscalls.open_tree(f"/{name}", recursive=True) for name in folders}
    null = syscalls.open_tree("/dev/null")
    syscalls.mount("none", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=64k")
    for name, link in host.items():
        (root / name).symlink_to(link)
    for name, copy in copies.items():
        (root / name).mkdir()
        flags = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        syscalls.mount_setattr(copy, set_flags=flags, recursive=True)
        syscalls.move_mount(copy, root / name)
        os.close(copy)
    (root / "dev").mkdir()
    for name, tree in {**trees, "dev/null": null}.items():
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            (root / name).mkdir()
        else:
            (root / name).touch()
        syscalls.move_mount(tree, root / name)
    os.close(null)


def main() -> None:
    """Do what the arguments say; a failure is one line on standard error and the exit code 125."""
    parent, text, *argv = sys.argv[1:]
    try:
        run(int(parent), Work.from_json(text), argv)
    except (OSError, ValueError) as error:
        print(f"cannot confine a command: {error}", file=sys.stderr)
        sys.exit(125)
