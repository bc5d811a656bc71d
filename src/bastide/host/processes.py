"""Processes by number, guarded against the number's reuse, without starting any.

Sources: proc(5) for /proc/PID/stat and /proc/PID/task/TID/children, pidfd_open(2).
"""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Some fields of /proc/PID/stat: `started` in clock ticks after boot."""

    pid: int
    state: str
    parent: int
    started: int


def stat(pid: int) -> ProcessStat | None:
    """What the kernel says of a process, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessStat(pid=pid, state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def started(pid: int) -> int | None:
    """When a living process started, in clock ticks after boot; None for a zombie or none."""
    found = stat(pid)
    return None if found is None or found.state in "ZX" else found.started


def epoch(ticks: int) -> float:
    """Seconds since the epoch of a moment given in clock ticks after boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + ticks / _TICKS
    return 0.0


def children(pid: int) -> list[int]:
    """The children of a process's main thread."""
    try:
        return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        # A kernel without CONFIG_PROC_CHILDREN, or no such process.
        numbers = (int(path.name) for path in Path("/proc").glob("[0-9]*")) if Path(f"/proc/{pid}").exists() else ()
        return sorted(found.pid for found in map(stat, numbers) if found is not None and found.parent == pid)
    except OSError:
        return []


def command(pid: int) -> str:
    """The process's name (/proc/PID/comm), empty when there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def arguments(pid: int) -> list[bytes]:
    """The process's command line, or the title that it gave itself; empty for a zombie or none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def find(chosen: Callable[[list[bytes]], bool]) -> list[int]:
    """The processes whose command line is chosen."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and chosen(arguments(int(name)))]


def kill_all(chosen: Callable[[int], bool]) -> int:
    """Kill the processes that are chosen by their number; how many there were."""
    killed = 0
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        if chosen(pid):
            with contextlib.suppress(ProcessLookupError):
                handle = Handle(pid)
                # The number may have been used again since the look.
                if chosen(pid):
                    handle.kill()
                    killed += 1
                handle.close()
    return killed


async def until(condition: Callable[[], bool], interval: float) -> None:
    """Look every `interval` seconds until the condition holds: for kernel files that tell nobody of a change."""
    while True:
        if condition():
            return
        await asyncio.sleep(interval)


class Handle:
    """A descriptor of one process, which stays that process's when its number is used again."""

    def __init__(self, pid: int) -> None:
        """Open it. Raises ProcessLookupError when there is none."""
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def alive(self) -> bool:
        """Whether it has not ended (a zombie has)."""
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; a process that ended is fine."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


async def ended(handle: Handle) -> None:
    """Return once a process has ended; nothing is asked meanwhile. Several may wait for the same one."""
    # A descriptor of its own: the loop allows one reader a descriptor, and the handle may be closed meanwhile.
    try:
        descriptor = os.dup(handle.fd)
    except OSError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
