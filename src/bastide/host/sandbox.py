"""A helper process that runs a tool where it reaches nothing but the files that it is given.

`sandboxed` makes the argument list. The tool runs as a user that owns nothing on this host, without a network, in a
root of its own that holds the host's programs, read-only, and those files as `/0`, `/1` ... It keeps one capability,
CAP_DAC_OVERRIDE: the files are root's and stay so, and there is no other file in there that it could open with it.

Sources: unshare(2), open_tree(2), pivot_root(2), setrlimit(2), setpriv(1), capabilities(7), sd_listen_fds(3).
"""

import errno
import fcntl
import os
import resource
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.units import GIB
from bastide.host import confine, syscalls

_SOURCE = str(Path(__file__).parents[2])
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.sandbox import main; main()"
# Debian keeps 65000 to 65533 unassigned, and so does systemd; 65534 is `nobody`, whose processes are not ours.
USER = 65533
_FIRST, _ABOVE = 3, 64  # descriptors: the first behind the standard ones, and one behind all that are handed over
_RIGHTS = "-all,+dac_override"
_SETPRIV = (
    *("/usr/bin/setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--no-new-privs"),
    *("--inh-caps", _RIGHTS, "--ambient-caps", _RIGHTS, "--bounding-set", _RIGHTS, "--pdeathsig", "KILL", "--"),
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tool may use: bytes of address space, seconds of processor time, bytes of the length of a file."""

    memory: int = 4 * GIB
    seconds: int = 3600
    length: int = 1 << 62


def sandboxed(
    argv: Sequence[str],
    files: Sequence[tuple[int, bool]] = (),
    bounds: Bounds = Bounds(),
    *,
    listener: int | None = None,
    peer: int | None = None,
) -> list[str]:
    """The argument list that runs `argv` (an absolute program) with open files, (descriptor, writable), as `/0` ...

    `listener` is a listening socket, handed over as systemd does it (sd_listen_fds(3)); beside it `peer`, a connected
    one, is the descriptor 4. All have to be inherited (`pass_fds`). It ends with the process that called this, its
    parent.
    """
    given = ",".join(f"{descriptor}{'w' if writable else 'r'}" for descriptor, writable in files)
    limits = (str(bounds.memory), str(bounds.seconds), str(bounds.length))
    sockets = ",".join(str(descriptor) for descriptor in (listener, peer) if descriptor is not None)
    return [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, str(os.getpid()), given, sockets, *limits, *argv]


def run(given: str, sockets: str, bounds: Bounds, argv: list[str]) -> None:
    """Become the tool; returns only by an error."""
    trees: dict[str, int] = {}
    for number, item in enumerate(given.split(",") if given else ()):
        descriptor = int(item[:-1])
        tree = syscalls.open_tree(f"/proc/self/fd/{descriptor}")
        flags = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
        if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
            flags |= syscalls.MOUNT_ATTR_NODEV
        syscalls.mount_setattr(tree, set_flags=flags | (0 if item[-1] == "w" else syscalls.MOUNT_ATTR_RDONLY))
        trees[str(number)] = tree
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    confine.new_root("/tmp", trees)  # noqa: S108 - a mount point in this process's own namespace
    syscalls.pivot_into("/tmp")  # noqa: S108 - in a mount namespace of its own
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
    # Moved out of the way first: one may have a number that the other one gets.
    handed = [fcntl.fcntl(int(number), fcntl.F_DUPFD, _ABOVE) for number in sockets.split(",") if number]
    for place, descriptor in enumerate(handed, _FIRST):
        os.dup2(descriptor, place)
    if handed:
        environment |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    os.closerange(_FIRST + len(handed), 1024)
    for kind, limit in (
        (resource.RLIMIT_AS, bounds.memory),
        (resource.RLIMIT_CPU, bounds.seconds),
        (resource.RLIMIT_FSIZE, bounds.length),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        resource.setrlimit(kind, (limit, limit))
    os.execve(_SETPRIV[0], [*_SETPRIV, *argv], environment)  # noqa: S606 - a list


def main() -> None:
    """Do what the arguments say; a failure is one line on standard error and the exit code 125."""
    parent, given, sockets, memory, seconds, length, *argv = sys.argv[1:]
    try:
        syscalls.die_with_parent()  # setpriv(1) sets it again, because changing the user takes it away
        if os.getppid() != int(parent):
            raise OSError(errno.ESRCH, "the daemon has ended")
        run(given, sockets, Bounds(int(memory), int(seconds), int(length)), argv)
    except (OSError, ValueError) as error:
        print(f"cannot confine {argv[0]}: {error}", file=sys.stderr)
        sys.exit(125)
