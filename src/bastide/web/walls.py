"""The walls that the web process builds around itself before it takes its first connection.

What is left to it: the descriptors that it holds, the processor, and memory. It is a user that owns nothing and shares
nothing, without a capability, in an empty root, without a network (what it accepts belongs to the daemon's), in process
and IPC namespaces of its own, and a filter refuses every system call that serving does not need: it opens no file,
makes no connection, starts no program and no thread, signals and traces nobody.
"""

from bastide.base.units import GIB
from bastide.host.seccomp import allow_only
from bastide.host.secluded import seclude

USER = 65532
"""Debian keeps 65000 to 65533 unassigned, and so does systemd; the helpers of `sandbox.py` are 65533."""

_MEMORY = 2 * GIB
_DESCRIPTORS = 8192
_CALLS = (
    # what connections need
    *("accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "read", "write", "readv", "writev", "close"),
    *("shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt", "fcntl", "fstat", "lseek"),
    *("epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"),
    # what the C library and Python need
    *("brk", "munmap", "mremap", "madvise", "futex", "sched_yield", "getrandom", "restart_syscall"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "exit", "exit_group"),
)


def build(parent: int) -> None:
    """Shut this process in, whose parent is `parent` (0 for one outside of its process namespace). Raises OSError."""
    seclude(parent, memory=_MEMORY, user=USER, descriptors=_DESCRIPTORS)
    allow_only(_CALLS)
