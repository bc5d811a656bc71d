"""A filter of system calls for the calling process, by libseccomp, which LXC and QEMU bring to every host.

Sources: seccomp(2), seccomp_init(3), seccomp_rule_add(3), seccomp_load(3).
"""

import ctypes
import errno
import functools
import os
from collections.abc import Sequence

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7  # enum scmp_compare
_UNKNOWN = -1  # __NR_SCMP_ERROR
_PROT_EXEC = 4
_FIONBIO = 0x5421  # asm-generic/ioctls.h: what makes a socket non-blocking
# Python's importer takes this for a file that is not there, and goes on.
_NO_FILE = ("open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "readlink", "readlinkat")
# No memory becomes code: what is loaded is all that runs.
_WITHOUT_CODE = ("mmap", "mmap2", "mprotect")


class _Argument(ctypes.Structure):
    """`struct scmp_arg_cmp` of seccomp.h."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """libseccomp, loaded; whoever is shut in has to call this before. Raises OSError where it is missing."""
    found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = [ctypes.c_uint32]
    found.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Argument)),
    ]
    found.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    found.seccomp_load.argtypes = found.seccomp_release.argtypes = [ctypes.c_void_p]
    found.seccomp_release.restype = None
    return found


def allow_only(calls: Sequence[str]) -> None:
    """Let this process call these, map memory that is not code, and make sockets non-blocking. All else fails: EPERM.

    Names that this architecture has not are passed over. PR_SET_NO_NEW_PRIVS is set besides. Raises OSError.
    """
    libseccomp = library()
    filter_ = libseccomp.seccomp_init(_ERRNO | errno.EPERM)
    if not filter_:
        raise MemoryError("seccomp_init")
    try:
        for name in calls:
            _rule(filter_, _ALLOW, name)
        for name in _NO_FILE:
            _rule(filter_, _ERRNO | errno.ENOENT, name)
        for name in _WITHOUT_CODE:
            _rule(filter_, _ALLOW, name, _Argument(2, _MASKED_EQUAL, _PROT_EXEC, 0))
        _rule(filter_, _ALLOW, "ioctl", _Argument(1, _EQUAL, _FIONBIO, 0))
        _check(libseccomp.seccomp_load(filter_), "seccomp_load")
    finally:
        libseccomp.seccomp_release(filter_)


def _rule(filter_: int, action: int, name: str, *arguments: _Argument) -> None:
    number = library().seccomp_syscall_resolve_name(name.encode())
    if number == _UNKNOWN:
        return
    given = (_Argument * max(1, len(arguments)))(*arguments)
    added = library().seccomp_rule_add_array(filter_, action, number, len(arguments), given)
    if added != -errno.EDOM:  # of another architecture
        _check(added, name)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
