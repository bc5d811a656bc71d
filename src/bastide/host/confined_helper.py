"""The helper process that `confined` starts: it builds the walls around itself and becomes the program.

It is started with every VM: what is imported here is time that each of them waits.
"""

import errno
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bastide.host import confine, syscalls

_DEVICES = ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ROOT = "/tmp"  # noqa: S108 - a mount point in this process's own namespace; nothing is written to it


def run(walls: Mapping[str, Any], argv: list[str]) -> None:
    """Become the program; returns only by an error."""
    Path("/proc/self/oom_score_adj").write_text("0")
    # A crash must not put the guest's memory on the host's disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if walls["locked_memory"]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    os.umask(0o022)  # its folders are for another user than the daemon
    _new_root(walls["devices"])
    os.umask(0o077)
    groups = ["--groups", ",".join(map(str, walls["groups"]))] if walls["groups"] else ["--clear-groups"]
    rights = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    user = str(walls["uid"])
    argv = ["/usr/bin/setpriv", "--reuid", user, "--regid", user, *groups, *rights, "--", *argv]
    os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})  # noqa: S606 - a list of arguments


def _new_root(devices: Sequence[str]) -> None:
    read_only = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    sys_tree = syscalls.open_tree("/sys")
    syscalls.mount_setattr(sys_tree, set_flags=read_only | syscalls.MOUNT_ATTR_NOEXEC)
    nodes = {}
    for device in dict.fromkeys((*_DEVICES, *devices)):
        if os.path.exists(device):
            nodes[device] = syscalls.open_tree(os.path.realpath(device))
    zone = os.readlink("/etc/localtime") if os.path.islink("/etc/localtime") else None
    confine.new_root(_ROOT, {"sys": sys_tree})
    for device, tree in nodes.items():
        place = Path(_ROOT + device)
        if os.path.isdir(device):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        syscalls.move_mount(tree, place)
    for name in ("proc", "etc", "tmp"):
        Path(_ROOT, name).mkdir()
    if zone is not None:
        Path(_ROOT, "etc/localtime").symlink_to(zone)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("none", f"{_ROOT}/proc", "proc", flags, "hidepid=invisible,subset=pid")
    syscalls.mount("none", _ROOT, flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | flags)
    syscalls.pivot_into(_ROOT)


def join(parent: int, groups: Sequence[str]) -> None:
    """Enter the control groups, where the next daemon finds it. Raises OSError when this one has ended before that."""
    for folder in groups:
        Path(folder, "cgroup.procs").write_text("0")
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon has ended")


def main() -> None:
    """Tell the process id on standard output, and go on in that process; a failure is one line on standard error."""
    parent, text, *argv = sys.argv[1:]
    try:
        walls = json.loads(text)
        join(int(parent), walls["cgroups"])
        child = os.fork()
        if child:
            print(child, flush=True)
            os._exit(0)
        os.setsid()
        os.dup2(2, 1)
        run(walls, argv)
    except (OSError, ValueError) as error:
        print(f"cannot confine {argv[0]}: {error}", file=sys.stderr)
        sys.exit(125)
