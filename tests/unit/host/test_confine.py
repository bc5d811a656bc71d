"""What confines a command: what is left of it when the one that made it is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from framework.patience import PATIENCE

_KILLED_ON_THE_WAY = """
import os, signal
from bastide.host import confine
read = os.read
def first_read(descriptor, length):
    if os.getpid() == maker:
        os.kill(maker, signal.SIGKILL)
    return read(descriptor, length)
maker = os.getpid()
os.read = first_read
confine.user_namespace(100000, 65536)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="maps ids, which takes root")
def test_nothing_is_left_of_a_maker_that_is_killed_between_two_steps() -> None:
    maker = subprocess.Popen([sys.executable, "-c", _KILLED_ON_THE_WAY], start_new_session=True)
    assert maker.wait(20 * PATIENCE) == -signal.SIGKILL
    deadline = time.monotonic() + 10 * PATIENCE
    while _lives(maker.pid):
        assert time.monotonic() < deadline, "a child of the killed process is left"
        time.sleep(0.02)


def _lives(group: int) -> bool:
    """Whether one of the group runs; what has ended and waits for init to look at it does not."""
    members = [process for process in psutil.process_iter(["status"]) if _group(process.pid) == group]
    return any(member.info["status"] != psutil.STATUS_ZOMBIE for member in members)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
