"""A system call made in the name of another process, as somebody who has taken it over would make it.

A thread of it is stopped, its registers and some bytes below its stack are borrowed for one call, and given back
(ptrace(2), <linux/user.h>, <asm/ptrace.h>). x86-64 alone.
"""

import ctypes
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GETREGS, _SETREGS, _ATTACH, _DETACH, _SINGLESTEP, _WALL = 12, 13, 16, 17, 9, 0x40000000
_FIELDS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
_SYSCALL = b"\x0f\x05"
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long


class Ended(Exception):
    """The call has ended the process."""


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _FIELDS]


def _ptrace(request: int, tid: int, data: object = None) -> None:
    if _LIBC.ptrace(request, tid, None, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request}: {os.strerror(code)}")


@contextmanager
def _stopped(tid: int) -> Iterator[_Registers]:
    """A stopped thread's registers, which it has again when the block ends."""
    _ptrace(_ATTACH, tid)
    try:
        os.waitpid(tid, _WALL)
        before = _Registers()
        _ptrace(_GETREGS, tid, ctypes.byref(before))
        yield _Registers.from_buffer_copy(before)
        _ptrace(_SETREGS, tid, ctypes.byref(before))
    finally:
        with suppress(ProcessLookupError):
            _ptrace(_DETACH, tid)


def instruction(pid: int) -> int:
    """Where in a process's memory a `syscall` instruction is."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .*/libc[.\-]", line):
                start, end = (int(text, 16) for text in found.groups())
                memory.seek(start)
                if (at := memory.read(end - start).find(_SYSCALL)) >= 0:
                    return start + at
    raise AssertionError("no system call in its libc")


def call(pid: int, number: int, *arguments: int | bytes) -> int:
    """Make a system call in a process, texts below its stack. Returns what it returns, or -errno, or raises Ended."""
    place = instruction(pid)
    with _stopped(pid) as registers, Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        free = registers.rsp - 8192
        values = []
        for argument in arguments:
            if isinstance(argument, bytes):
                memory.seek(free)
                memory.write(argument + b"\0")
                values.append(free)
                free += len(argument) + 1
            else:
                values.append(argument)
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values, strict=False):
            setattr(registers, name, value & (1 << 64) - 1)
        # -1: the call that it was stopped in is not begun again with these registers.
        registers.rax, registers.orig_rax, registers.rip = number, (1 << 64) - 1, place
        _ptrace(_SETREGS, pid, ctypes.byref(registers))
        _ptrace(_SINGLESTEP, pid)
        _, status = os.waitpid(pid, _WALL)
        if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != signal.SIGTRAP:
            raise Ended(f"{status:#x}")
        _ptrace(_GETREGS, pid, ctypes.byref(registers))
        return ctypes.c_longlong(registers.rax).value
