"""The web process of a host: which one it is, what it holds."""

import contextlib
import os
import time
from pathlib import Path

from bastide.host import processes
from framework.host import Host
from framework.patience import PATIENCE


def web_pid(host: Host) -> int:
    """The process that speaks to the world, once it is behind its walls."""
    assert host.process is not None
    deadline = time.monotonic() + 30 * PATIENCE
    while time.monotonic() < deadline:
        for waiting in processes.children(host.process.pid):
            with contextlib.suppress(OSError, IndexError):
                if processes.command(waiting) == "bastide-web":
                    inside = processes.children(waiting)[0]
                    if "Seccomp:\t2" in Path(f"/proc/{inside}/status").read_text():
                        return inside
        time.sleep(0.02)
    raise AssertionError(f"there is no web process:\n{host.daemon_log()}")


def memory(pid: int) -> int:
    """Bytes of memory that are resident; 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
