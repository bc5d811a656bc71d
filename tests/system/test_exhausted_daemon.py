"""The daemon runs out of open files or memory: refusals that say so, no fault of its own, and all well afterwards."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from framework.host import ApiFailure, Host

pytestmark = pytest.mark.system

SECONDS = 3.0


@pytest.fixture
def daemon(own_host: Host) -> Host:
    """A host that answers, over a connection that stays open."""
    own_host.get("/version")
    return own_host


@contextlib.contextmanager
def limited(host: Host, what: int, soft: int) -> Iterator[None]:
    """Lower a soft limit of the running daemon (prlimit(2))."""
    assert host.process is not None
    before = resource.prlimit(host.process.pid, what)
    resource.prlimit(host.process.pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(host.process.pid, what, before)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def all_is_well(host: Host, pid: int) -> None:
    """Also that it is the same process, for whoever waited and whoever comes anew."""
    assert host.process is not None
    assert (host.process.poll(), host.process.pid) == (None, pid)
    with httpx.Client(verify=False, timeout=60) as client:
        assert client.get(f"https://127.0.0.1:{host.port}/api2/json/version").status_code == 401
    host.wait(host.post(f"/nodes/{host.node}/startall"))
    assert "internal error" not in host.daemon_log()


def test_without_open_files_it_says_so_and_goes_on(daemon: Host) -> None:
    """Without `exhausted` in api/errors.py this fails: the task's log is a 500."""
    assert daemon.process is not None
    pid = daemon.process.pid
    used = {int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()}
    with limited(daemon, resource.RLIMIT_NOFILE, min(set(range(len(used) + 1)) - used)):
        answer = daemon.http.post(f"/nodes/{daemon.node}/startall")
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert "open files" in answer.json()["message"]
        assert daemon.get("/version"), "what needs no file is answered"
        before, begun = cpu_seconds(pid), time.monotonic()
        with contextlib.suppress(httpx.TransportError), httpx.Client(verify=False, timeout=SECONDS) as late:
            late.get(f"https://127.0.0.1:{daemon.port}/api2/json/version")
        # One that spins over a connection it cannot accept uses up a processor.
        spent = (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        assert spent < 0.5, f"{spent:.0%} of a processor while nothing could be accepted"
    all_is_well(daemon, pid)


def test_without_memory_it_says_so_and_goes_on(daemon: Host) -> None:
    """Without `MemoryError` in base/exhaustion.py this fails: a large body is an internal error."""
    assert daemon.process is not None
    pid = daemon.process.pid
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    seen: set[int] = set()
    with limited(daemon, resource.RLIMIT_AS, size):
        for count in range(40):
            text = "x" * (500_000 - count)
            with contextlib.suppress(httpx.TransportError):
                seen.add(daemon.http.post("/architect/plan", json={"text": text}, timeout=SECONDS).status_code)
            with contextlib.suppress(httpx.TransportError, ApiFailure):
                daemon.wait(daemon.post(f"/nodes/{daemon.node}/startall"), SECONDS)
    assert seen <= {400, 503}, seen
    all_is_well(daemon, pid)
