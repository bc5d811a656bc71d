"""Filters as the kernel holds them: read from a real process, and put through the interpreter."""

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.host import seccomp_filters

ALLOW, ERRNO = 0x7FFF0000, 0x00050001
LOAD_NUMBER = (0x20, 0, 0, 0)
GETCWD, SYSINFO = 79, 99

# A process that lets itself be filtered and then waits for the end of its input.
CHILD = """
import ctypes, struct, sys
rows = [tuple(map(int, row.split(","))) for row in sys.argv[1:]]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
program = ctypes.create_string_buffer(struct.pack("@HP", len(rows), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
print("ready", flush=True)
sys.stdin.read()
"""

DENIES_TWO = [
    LOAD_NUMBER,
    (0x15, 2, 0, GETCWD),
    (0x15, 1, 0, SYSINFO),
    (0x06, 0, 0, ALLOW),
    (0x06, 0, 0, ERRNO),
]

HANDED_OUT = os.uname().machine == "x86_64" and os.path.exists("/proc/sys/kernel/ns_last_pid")
"""The file is there with CONFIG_CHECKPOINT_RESTORE alone."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the filters of others")


@contextlib.contextmanager
def filtered(*rows: tuple[int, int, int, int]) -> Iterator[int]:
    """The pid of a process with that filter."""
    argv = [sys.executable, "-c", CHILD, *(",".join(map(str, row)) for row in rows)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child.pid
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(10) == 0


@as_root
def test_the_kernel_tells_what_a_process_may_not_call() -> None:
    with filtered(*DENIES_TWO) as pid:
        for _ in range(2):  # it is let go, and can be asked again
            found = seccomp_filters.refused(pid)
            assert found == ((2, len(seccomp_filters.CALLS)) if HANDED_OUT else None)


@as_root
def test_a_process_without_filters_or_without_life_tells_nothing() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert seccomp_filters.refused(child.pid) is None
        child.kill()
    assert seccomp_filters.refused(child.pid) is None


def test_all_filters_have_to_agree() -> None:
    allow, deny = [(0x06, 0, 0, ALLOW)], [(0x06, 0, 0, ERRNO)]
    assert seccomp_filters.allows([allow, DENIES_TWO], 0)
    assert not seccomp_filters.allows([allow, DENIES_TWO], GETCWD)
    assert not seccomp_filters.allows([deny, allow], 0)


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ([(0x00, 0, 0, 7), (0x16, 0, 0, 0)], 7),
        ([(0x00, 0, 0, 7), (0x04, 0, 0, 0xFFFFFFFF), (0x16, 0, 0, 0)], 6),
        ([(0x01, 0, 0, 3), (0x00, 0, 0, 4), (0x0C, 0, 0, 0), (0x16, 0, 0, 0)], 7),
        ([(0x00, 0, 0, 0xF0), (0x54, 0, 0, 0x30), (0x16, 0, 0, 0)], 0x30),
        ([(0x00, 0, 0, 9), (0x02, 0, 0, 5), (0x00, 0, 0, 0), (0x60, 0, 0, 5), (0x16, 0, 0, 0)], 9),
        ([(0x00, 0, 0, 9), (0x07, 0, 0, 0), (0x00, 0, 0, 0), (0x87, 0, 0, 0), (0x16, 0, 0, 0)], 9),
        ([(0x05, 0, 0, 1), (0x06, 0, 0, 1), (0x06, 0, 0, 2)], 2),
        ([(0x00, 0, 0, 6), (0x45, 0, 1, 2), (0x06, 0, 0, 1), (0x06, 0, 0, 2)], 1),
        ([(0x80, 0, 0, 0), (0x16, 0, 0, 0)], 64),
    ],
)  # fmt: skip
def test_instructions(program: list[tuple[int, int, int, int]], value: int) -> None:
    assert seccomp_filters.evaluate(program, bytes(64)) == value


row = st.tuples(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))


@given(st.lists(row, max_size=30))
def test_whatever_is_no_program_is_refused(program: list[tuple[int, int, int, int]]) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= seccomp_filters.evaluate(program, struct.pack("=iIQ6Q", 1, 0, 0, *[0] * 6)) < 2**32


def test_the_instruction_has_the_kernels_size() -> None:
    assert ctypes.sizeof(ctypes.c_uint16) + 2 + ctypes.sizeof(ctypes.c_uint32) == struct.calcsize("=HBBI") == 8
