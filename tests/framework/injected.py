"""System calls that are made inside another process, as code of an attacker's in it would: ptrace(2), on x86-64.

The process is stopped in the middle of a call of its own, so that the instruction before its next one is `syscall`.
That one is run again with other registers, and everything is put back afterwards.
"""

import ctypes
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_SINGLESTEP, _GETREGS, _SETREGS, _SEIZE, _DETACH, _INTERRUPT = 9, 12, 13, 0x4206, 17, 0x4207
_REGISTERS = 27  # struct user_regs_struct of sys/user.h
_RAX, _RIP, _ORIG_RAX, _RSP = 10, 16, 15, 19
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9
_SYSCALL = b"\x0f\x05"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Injected:
    """A stopped process in which calls can be made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._saved = self._registers()
        place = self._saved[_RIP]
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(place - 2)
            assert memory.read(2) == _SYSCALL, "the process was not stopped in a system call"

    def call(self, number: int, *arguments: int | bytes) -> int:
        """Make a system call; texts lie on the stack. The result, a negative errno for an error."""
        top = (self._saved[_RSP] - 4096) & ~0xF
        given = []
        with open(f"/proc/{self._pid}/mem", "r+b") as memory:
            for argument in arguments:
                if isinstance(argument, bytes):
                    top -= (len(argument) + 16) & ~0xF
                    memory.seek(top)
                    memory.write(argument + b"\0")
                    given.append(top)
                else:
                    given.append(argument & (1 << 64) - 1)
        registers = list(self._saved)
        registers[_RIP] -= 2
        registers[_RAX], registers[_ORIG_RAX] = number, (1 << 64) - 1
        for place, value in zip(_ARGUMENTS, given, strict=False):
            registers[place] = value
        self._set(registers)
        _trace(_SINGLESTEP, self._pid)
        _wait(self._pid)
        return struct.unpack("q", struct.pack("Q", self._registers()[_RAX]))[0]

    def restore(self) -> None:
        """Put everything back; the interrupted call is begun anew by the kernel's own rules."""
        self._set(list(self._saved))

    def _registers(self) -> list[int]:
        buffer = (ctypes.c_uint64 * _REGISTERS)()
        _trace(_GETREGS, self._pid, ctypes.addressof(buffer))
        return list(buffer)

    def _set(self, registers: list[int]) -> None:
        buffer = (ctypes.c_uint64 * _REGISTERS)(*registers)
        _trace(_SETREGS, self._pid, ctypes.addressof(buffer))


@contextmanager
def injected(pid: int) -> Iterator[Injected]:
    """Stop a process that waits in a system call; it goes on afterwards."""
    _trace(_SEIZE, pid)
    try:
        _trace(_INTERRUPT, pid)
        _wait(pid)
        inside = Injected(pid)
        try:
            yield inside
        finally:
            inside.restore()
    finally:
        _trace(_DETACH, pid)


def _wait(pid: int) -> None:
    _, status = os.waitpid(pid, 0x40000000)  # __WALL
    assert os.WIFSTOPPED(status), f"the process ended: {status}"
    assert os.WSTOPSIG(status) == signal.SIGTRAP, f"stopped by {status:#x}"


def _trace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
