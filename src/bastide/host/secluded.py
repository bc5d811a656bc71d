"""How a helper process of ours shuts itself in before it reads what a stranger has written.

It keeps the descriptors that it was given and what it has imported. It is a user that owns nothing, in an empty root,
without a network and without any right, and it ends with the daemon.

Sources: unshare(2), pivot_root(2), setresuid(2), prctl(2) for PR_SET_NO_NEW_PRIVS and PR_SET_PDEATHSIG, setrlimit(2).
"""

import errno
import os
import resource
from collections.abc import Sequence

from bastide.host import syscalls
from bastide.host.sandbox import USER


def as_first_process(parent: int, descriptors: Sequence[int]) -> int | None:
    """Go on, by a fork, as the first process of a process namespace, where no other is to be seen.

    None in that process. What it was, which `parent` started, closes the `descriptors` and waits for it: for that one
    the result is the other's exit code, negative for a signal. Each ends with the one before it. Raises OSError.
    """
    syscalls.die_with_parent()
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon has ended")
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        syscalls.die_with_parent()
        return None
    for descriptor in descriptors:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def seclude(parent: int, *, memory: int, user: int = USER, descriptors: int = 1024) -> None:
    """Shut this process in, which the process `parent` started; `memory` limits its address space in bytes.

    It becomes `user`, and may have so many `descriptors`. Whatever is needed of the host has to be open and imported
    before. Raises OSError.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC | syscalls.MS_RDONLY
    syscalls.mount("none", "/tmp", "tmpfs", flags, "mode=755,size=4k")  # noqa: S108 - in a namespace of its own
    syscalls.pivot_into("/tmp")  # noqa: S108 - in a mount namespace of its own
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, descriptors),
    ):
        resource.setrlimit(kind, (limit, limit))
    syscalls.drop_bounding_set()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    syscalls.set_no_new_privileges()
    syscalls.die_with_parent()  # not before: changing the user takes it away
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon has ended")
