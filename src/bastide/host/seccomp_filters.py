"""How many system calls the seccomp filters of a process refuse, as the kernel holds them, not as somebody asked.

The filters are read with ptrace(2), which stops the process for about a millisecond, and each call's number is put
through them with all its arguments 0; what is refused for certain arguments alone is not counted. Sources: ptrace(2)
(PTRACE_SEIZE, PTRACE_SECCOMP_GET_FILTER), seccomp(2), the kernel's networking/filter (classic BPF) and
uapi/linux/seccomp.h.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterable, Sequence

Instruction = tuple[int, int, int, int]
"""A `struct sock_filter`: code, jump if true, jump if false, k."""

# The calls of x86-64 up to Linux 6.1; the numbers between are unused by design.
CALLS = (*range(335), *range(424, 451))
_AUDIT_ARCH_X86_64 = 0xC000003E

_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_WALL = 0x40000000
_MOST_FILTERS = 16
_ALLOW, _LOG = 0x7FFF0000, 0x7FFC0000
_KILL_PROCESS = 0x80000000
_ACTION = 0xFFFF0000
_WORD = 0xFFFFFFFF

_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x10: lambda a, b: a - b,
    0x20: lambda a, b: a * b,
    0x30: lambda a, b: a // b if b else 0,
    0x40: lambda a, b: a | b,
    0x50: lambda a, b: a & b,
    0x60: lambda a, b: a << b if b < 32 else 0,
    0x70: lambda a, b: a >> b if b < 32 else 0,
    0x80: lambda a, _: -a,
    0xA0: lambda a, b: a ^ b,
}
_COMPARE: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0x40: lambda a, b: bool(a & b),
}


def refused(pid: int) -> tuple[int, int] | None:
    """How many of how many system calls a process cannot make. Blocks for a moment.

    None when the kernel or the machine cannot tell: not x86-64, a kernel without checkpointing, a process that is gone.
    """
    if platform.machine() != "x86_64":
        return None
    try:
        programs = _programs(pid)
        return sum(not allows(programs, number) for number in CALLS), len(CALLS)
    except (OSError, ValueError):
        return None


def allows(programs: Iterable[Sequence[Instruction]], number: int) -> bool:
    """Whether all filters let a call of that number pass. Raises ValueError for a program that is none."""
    data = struct.pack("=iIQ6Q", number, _AUDIT_ARCH_X86_64, 0, *[0] * 6)
    actions = [evaluate(program, data) & _ACTION for program in programs]
    return all(action in (_ALLOW, _LOG) for action in actions)


def evaluate(program: Sequence[Instruction], data: bytes) -> int:
    """What a classic BPF program returns for a `struct seccomp_data`. Raises ValueError for a program that is none."""
    a = x = 0
    memory = [0] * 16
    at = 0
    while 0 <= at < len(program):
        code, true, false, k = program[at]
        at += 1
        kind = code & 0x07
        operand = x if code & 0x08 else k
        if kind == 0x06:
            return a if code & 0x18 == 0x10 else k
        if kind in (0x00, 0x01):
            value = _load(code, k, memory, data)
            a, x = (value, x) if kind == 0x00 else (a, value)
        elif kind in (0x02, 0x03):
            memory[k & 15] = a if kind == 0x02 else x
        elif kind == 0x04:
            a = _look_up(_ARITHMETIC, code)(a, operand) & _WORD
        elif kind == 0x05:
            at += k if code & 0xF0 == 0 else (true if _look_up(_COMPARE, code)(a, operand) else false)
        else:
            a, x = (x, x) if code & 0x80 else (a, a)
    raise ValueError("a filter that does not end")


def _load(code: int, k: int, memory: Sequence[int], data: bytes) -> int:
    mode = code & 0xE0
    if mode == 0x00:
        return k
    if mode == 0x20 and k % 4 == 0 and 0 <= k <= len(data) - 4:
        return int(struct.unpack_from("=I", data, k)[0])
    if mode == 0x60:
        return memory[k & 15]
    if mode == 0x80:
        return len(data)
    raise ValueError(f"a load of an unknown kind: {code:#x}")


def _look_up(
    table: dict[int, Callable[[int, int], int]] | dict[int, Callable[[int, int], bool]], code: int
) -> Callable[[int, int], int]:
    try:
        return table[code & 0xF0]
    except KeyError:
        raise ValueError(f"an unknown instruction: {code:#x}") from None


def _programs(pid: int) -> list[list[Instruction]]:
    """The filters of a process. Raises OSError. The thread that calls is the tracer until it returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)

    def ptrace(request: int, address: int = 0, data: "ctypes.Array[ctypes.c_char] | None" = None) -> int:
        done = int(libc.ptrace(request, pid, address, data))
        if done < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return done

    ptrace(_SEIZE)
    try:
        ptrace(_INTERRUPT)
        os.waitpid(pid, _WALL)
        found = []
        for index in range(_MOST_FILTERS):
            try:
                buffer = ctypes.create_string_buffer(8 * ptrace(_GET_FILTER, index))
            except FileNotFoundError:
                break
            ptrace(_GET_FILTER, index, buffer)
            found.append([struct.unpack_from("=HBBI", buffer.raw, start) for start in range(0, len(buffer.raw), 8)])
        return found
    finally:
        ptrace(_DETACH)
