"""A helper process that confines a command to one folder and one range of ids.

`idmap.py` starts it as `python -I -S -c ... DAEMON TARGET FIRST COUNT ARGV...`. The command runs as root of a user
namespace with the ids FIRST .. FIRST+COUNT-1, in a root of its own that holds nothing but the host's programs,
read-only, and TARGET at `/target`. Whatever it is fed with, it cannot touch another file of the host, make a device
node or gain a right there. It ends with the process DAEMON.

Sources: user_namespaces(7), mount_setattr(2), pivot_root(2).
"""

import errno
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from bastide.host import syscalls

_PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What mount_setattr says when the file system, or a mount below it, knows no mapped owners.
_NO_MAPPING = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)


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


def run(parent: int, target: str, first: int, count: int, argv: list[str]) -> None:
    """Run a command confined to `target` that ends with the process `parent`; returns only by an error."""
    _end_with(parent)
    namespace = user_namespace(first, count)
    tree = syscalls.open_tree(target)
    if first:
        _map_owners(tree, namespace, first)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    new_root("/tmp", {"target": tree})  # noqa: S108 - a mount point in this process's own namespace; nothing is written to it
    syscalls.pivot_into("/tmp")  # noqa: S108
    syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
    os.close(namespace)
    os.close(tree)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.set_no_new_privileges()
    _end_with(parent)  # again: changing the user takes it away
    os.umask(0o022)
    os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})  # noqa: S606


def _end_with(parent: int) -> None:
    """Without its daemon the command would go on writing into a volume that recovery removes."""
    syscalls.die_with_parent()
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon has ended")


def _map_owners(tree: int, namespace: int, first: int) -> None:
    """Show the target with mapped owners, or give its root to the map's first id where the kernel cannot."""
    try:
        if os.fstat(tree).st_uid != first:
            syscalls.mount_setattr(tree, user_namespace=namespace)
    except OSError as error:
        if error.errno not in _NO_MAPPING:
            raise
        os.chown(tree, first, first)


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
    parent, target, first, count, *argv = sys.argv[1:]
    try:
        run(int(parent), target, int(first), int(count), argv)
    except (OSError, ValueError) as error:
        print(f"cannot confine a command to {target}: {error}", file=sys.stderr)
        sys.exit(125)
