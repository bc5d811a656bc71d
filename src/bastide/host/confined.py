"""A helper process that becomes a VM's process: an own user, an own root, own control groups, and no right at all.

`start` starts it; it is nobody's child, so that it outlives the daemon. The program (QEMU, swtpm) runs with the uid
that it is given, in a mount namespace whose root holds the host's programs and libraries, /sys and the few devices that
it needs, read-only but for the devices; its /proc shows its own user's processes alone. It inherits what it works with
as open descriptors.

Sources: unshare(2), pivot_root(2), setpriv(1), proc(5) for `hidepid` and `subset`, setrlimit(2).
"""

import json
import os
import resource
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bastide.base.errors import HostFailure
from bastide.host import confine, processes, syscalls
from bastide.host.run import kill_group, spawn

_SOURCE = str(Path(__file__).parents[2])
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.confined import main; main()"
_DEVICES = ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ROOT = "/tmp"  # noqa: S108 - a mount point in this process's own namespace; nothing is written to it


@dataclass(frozen=True, slots=True)
class Walls:
    """What a process is let through to.

    `groups` are supplementary groups, `cgroups` the folders of its control group, `devices` device nodes or folders
    below /dev that it sees. `locked_memory`: whether it may lock memory without a limit, as VFIO does.
    """

    uid: int
    cgroups: Sequence[str] = ()
    groups: Sequence[int] = ()
    devices: Sequence[str] = ()
    locked_memory: bool = False


async def start(argv: Sequence[str], walls: Walls, *, log: int, inherit: Sequence[int] = ()) -> processes.Handle:
    """Run `argv` (an absolute program) within the walls. What it says goes to the descriptor `log`.

    The descriptors in `inherit` keep their numbers. Returns when the process is there, before the program runs: whether
    it does is seen from its end. Raises HostFailure.
    """
    helper = [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, json.dumps(asdict(walls)), *argv]
    process = await spawn(helper, stdout=PIPE, stderr=log, pass_fds=inherit, cwd=Path("/"))
    try:
        told = await process.stdout.read() if process.stdout is not None else b""
        await process.wait()
        return processes.Handle(int(told))
    except (ValueError, ProcessLookupError):
        raise HostFailure(f"{argv[0]} ended at once") from None
    finally:
        if process.returncode is None:
            await kill_group(process)


def run(walls: Mapping[str, Any], argv: list[str]) -> None:
    """Become the program; returns only by an error."""
    for folder in walls["cgroups"]:
        Path(folder, "cgroup.procs").write_text("0")
    Path("/proc/self/oom_score_adj").write_text("0")
    # A crash must not put the guest's memory on the host's disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if walls["locked_memory"]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    _new_root(walls["devices"])
    os.umask(0o077)
    groups = ["--groups", ",".join(map(str, walls["groups"]))] if walls["groups"] else ["--clear-groups"]
    rights = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    user = str(walls["uid"])
    argv = ["/usr/bin/setpriv", "--reuid", user, "--regid", user, *groups, *rights, "--", *argv]
    os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})  # noqa: S606


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


def main() -> None:
    """Tell the process id on standard output, and go on in that process; a failure is one line on standard error."""
    walls, *argv = sys.argv[1:]
    child = os.fork()
    if child:
        print(child, flush=True)
        os._exit(0)
    os.setsid()
    os.dup2(2, 1)
    try:
        run(json.loads(walls), argv)
    except (OSError, ValueError) as error:
        print(f"cannot confine {argv[0]}: {error}", file=sys.stderr)
        sys.exit(125)
