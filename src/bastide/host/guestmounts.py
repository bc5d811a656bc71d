"""A helper process that mounts folders and device nodes in a guest's mount namespace.

`guest/lxc` starts it: as LXC's hook before the guest's init runs, and for a guest that runs. What to mount is a JSON
file (`Work`). It goes through a mount namespace of its own in three steps:

1. as the host's root: detached copies of the sources, with mapped owners and flags, attached in a new namespace;
2. as root of the guest's user namespace: a copy of that namespace, which locks the flags for ever (a guest's root
   cannot make a read-only mount writable), and detached copies from there;
3. in the guest's mount namespace: attached to folders found with `RESOLVE_IN_ROOT`, never through a link that leads
   outside, by descriptor, so that the guest cannot exchange the folder meanwhile.

Sources: mount_namespaces(7) on less privileged namespaces, open_tree(2), move_mount(2), mount_setattr(2).
"""

import contextlib
import errno
import json
import os
import stat
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bastide.base.errors import BastideError
from bastide.host import syscalls
from bastide.host.rootdir import RootDir

# A mount point that exists everywhere; only this process's own namespace is changed.
_STAGE = Path("/tmp")  # noqa: S108 - in a mount namespace of its own


@dataclass(frozen=True, slots=True)
class Folder:
    """A host folder to be seen at `target`. `mapped`: its owners are the guest's ids. `flags`: mount options."""

    source: str
    target: str
    mapped: bool
    flags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Node:
    """A device node to be seen at `target`; `uid` and `gid` are the guest's, `mode` its permissions."""

    target: str
    block: bool
    major: int
    minor: int
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Work:
    """What to mount in a guest whose ids begin at the host's `first` (0: a privileged one)."""

    first: int
    folders: list[Folder]
    nodes: list[Node]

    def to_json(self) -> str:
        """The form that the helper reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Work":
        """Read `to_json`."""
        raw = json.loads(text)
        return cls(raw["first"], [Folder(**item) for item in raw["folders"]], [Node(**item) for item in raw["nodes"]])


def attach(work: Work, pid: int) -> None:
    """Mount everything in the mount namespace of process `pid`. Leaves this process in that namespace."""
    user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    trees = [_tree(folder, work.first, user) for folder in work.folders]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("none", _STAGE, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=64k")
    for number, tree in enumerate(trees):
        place = _STAGE / str(number)
        place.mkdir() if stat.S_ISDIR(os.fstat(tree).st_mode) else place.touch()
        syscalls.move_mount(tree, place)
    for number, node in enumerate(work.nodes, len(trees)):
        _make_node(_STAGE / str(number), node, work.first)
    os.umask(0o022)
    if os.fstat(user).st_ino != os.stat("/proc/self/ns/user").st_ino:
        syscalls.setns(user, syscalls.CLONE_NEWUSER)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        syscalls.unshare(syscalls.CLONE_NEWNS)
    targets = [folder.target for folder in work.folders] + [node.target for node in work.nodes]
    copies = [syscalls.open_tree(_STAGE / str(number), recursive=True) for number in range(len(targets))]
    syscalls.setns(mounts, syscalls.CLONE_NEWNS)
    with RootDir(Path("/")) as root:
        for copy, target in zip(copies, targets, strict=True):
            _attach_one(root, copy, target)


def _tree(folder: Folder, first: int, user: int) -> int:
    tree = syscalls.open_tree(folder.source, recursive=not folder.mapped)
    if folder.mapped and first and os.fstat(tree).st_uid != first:
        _map_owners(tree, first, user)
    flags = syscalls.attribute_flags(folder.flags)
    if flags:
        syscalls.mount_setattr(tree, set_flags=flags, recursive=True)
    return tree


def _map_owners(tree: int, first: int, user: int) -> None:
    try:
        syscalls.mount_setattr(tree, user_namespace=user)
    except OSError as error:
        # A file system that cannot show mapped owners: an empty volume simply becomes the guest's.
        if error.errno != errno.EINVAL or set(os.listdir(f"/proc/self/fd/{tree}")) - {"lost+found"}:
            raise
        os.chown(f"/proc/self/fd/{tree}", first, first)


def _make_node(place: Path, node: Node, first: int) -> None:
    kind = stat.S_IFBLK if node.block else stat.S_IFCHR
    os.mknod(place, kind | 0o600, os.makedev(node.major, node.minor))
    os.chown(place, first + node.uid, first + node.gid)
    place.chmod(node.mode)


def _attach_one(root: RootDir, copy: int, target: str) -> None:
    if stat.S_ISDIR(os.fstat(copy).st_mode):
        root.mkdir(target)
        flags = os.O_PATH | os.O_DIRECTORY
    else:
        root.mkdir(target.rpartition("/")[0] or "/")
        if not root.exists(target):
            root.write(target, b"")
        flags = os.O_PATH
    with root.open(target, flags) as place:
        syscalls.move_mount(copy, "", directory=place)
    os.close(copy)


def _leave_profile() -> None:
    """Become unconfined: a hook inherits the AppArmor profile of lxc-start, which knows LXC's own mounts only.

    The profile permits this change (apparmor.d(5), change_profile).
    """
    with contextlib.suppress(OSError), open("/proc/self/attr/current", "wb", buffering=0) as file:
        file.write(b"changeprofile unconfined")


def main() -> None:
    """`guestmounts FILE [PID]`: read the work from FILE; as a hook the process is LXC_PID (lxc.container.conf(5)).

    A failure is one line in FILE.error and the exit code 1.
    """
    file = Path(sys.argv[1])
    error_file = file.with_name(file.name + ".error")
    descriptor = os.open(error_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _leave_profile()
        pid = int(sys.argv[2]) if len(sys.argv) == 3 else int(os.environ["LXC_PID"])
        attach(Work.from_json(file.read_text()), pid)
    except (OSError, BastideError, KeyError, ValueError) as error:
        # The file was opened on the host: by now this process may be in the guest's namespace.
        os.write(descriptor, f"cannot mount: {error}\n".encode())
        sys.exit(1)
