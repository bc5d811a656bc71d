"""A hostile guest that uses up what it can: attack class 31. The host and its other guests keep what they need."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from bastide.host.cgroups import host_cgroups
from framework.evil import put_template, try_create
from framework.host import Host
from framework.patience import PATIENCE
from framework.roots import busybox_tar
from framework.sockets import execute, opened

pytestmark = pytest.mark.system


def small(host: Host, **options: object) -> int:
    """A running busybox guest."""
    vmid, told = try_create(host, put_template(host, "small", busybox_tar()), **options)
    assert vmid is not None, told
    host.act(vmid, "start")
    return vmid


@pytest.fixture(scope="module")
def box(host: Host) -> Iterator[int]:
    """A running busybox guest."""
    vmid = small(host)
    yield vmid
    host.remove(vmid)


def group(host: Host, vmid: int) -> str:
    """The control group of a guest."""
    return f"{Layout(host.root).instance}/{vmid}"


def rss(host: Host) -> int:
    """Bytes of memory that the daemon holds."""
    assert host.process is not None
    return int(Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answers_within(host: Host, seconds: float) -> list[float]:
    """How long the version took, asked again and again meanwhile."""
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        host.get("/version")
        times.append(time.monotonic() - began)
        time.sleep(0.01)
    return sorted(times)


def test_a_flooded_console_fills_nothing(host: Host, box: int) -> None:
    def held() -> int:
        folders = (host.root / "log", host.root / "run")
        return sum(path.lstat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())

    before, memory = held(), rss(host)
    with opened(host, f"/bastide/guests/{box}/exec", [("command", w) for w in ("sh", "-c", FLOOD)]):
        assert answers_within(host, 3)[-1] < 1
    assert held() - before < 1 << 20
    assert rss(host) - memory < 50 << 20


FLOOD = "while :; do echo 0123456789012345678901234567890123456789012345678901234567890 > /dev/console; done"


def test_a_gigabyte_of_output_is_not_kept(host: Host, box: int) -> None:
    memory, peak, seen = rss(host), 0, 0
    argv = ("dd", "if=/dev/zero", "bs=1048576", "count=1024")
    with opened(host, f"/bastide/guests/{box}/exec", [("command", word) for word in argv]) as socket:
        while seen < 48 << 20:  # the rest is for a client that goes away
            frame = socket.recv(timeout=20)
            assert isinstance(frame, bytes)
            seen += len(frame)
            peak = max(peak, rss(host))
        time.sleep(0.5)
        peak = max(peak, rss(host))
    assert peak - memory < 100 << 20


def test_guests_leave_the_host_processes(host: Host, box: int) -> None:
    """Without limits on each guest and on all guests together this fails: two could take every number there is."""
    groups, possible = host_cgroups(), int(Path("/proc/sys/kernel/pid_max").read_text())
    possible = min(possible, int(Path("/proc/sys/kernel/threads-max").read_text()))
    one, every = (groups.read_int(name, "pids", "pids.max") for name in (group(host, box), Layout(host.root).instance))
    assert one is not None
    assert every is not None
    assert one <= possible // 2
    assert every <= possible * 9 // 10
    # The limit of all at work: a bomb comes to an end, the host's processes and the daemon's do not.
    used = groups.process_count(Layout(host.root).instance)
    groups.write(Layout(host.root).instance, "pids", "pids.max", str(used + 50))
    try:
        with bomb(host, box):
            until(lambda: (groups.read_int(Layout(host.root).instance, "pids", "pids.current") or 0) >= used + 49)
            assert answers_within(host, 2)[-1] < 1 * PATIENCE
            assert host.get(host.path(box, "/status/current"))["status"] == "running"
    finally:
        groups.write(Layout(host.root).instance, "pids", "pids.max", str(every))
    host.act(box, "stop")
    host.act(box, "start")


BOMB = "b() { b | b & }; b; sleep 60"


def bomb(host: Host, vmid: int) -> ExitStack:
    """A fork bomb in a guest, until the block ends."""
    with ExitStack() as stack:
        stack.enter_context(opened(host, f"/bastide/guests/{vmid}/exec", [("command", w) for w in ("sh", "-c", BOMB)]))
        return stack.pop_all()


def until(what: object, seconds: float = 30) -> None:
    """Wait for something to come about."""
    assert callable(what)
    deadline = time.monotonic() + seconds * PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_guest_fills_its_own_memory(host: Host) -> None:
    """Files in memory are a guest's own memory. Without its limit this fails: a file of 300 MiB is made."""
    vmid = small(host, memory=64, swap=0)
    fill = "mkdir -p /srv/m; mount -t tmpfs none /srv/m; dd if=/dev/zero of=/srv/m/x bs=1048576 count=300"
    code, _, _ = execute(host, vmid, "sh", "-c", fill)
    assert code != 0
    used, _ = host_cgroups().memory(group(host, vmid))
    assert used <= 65 << 20
    assert answers_within(host, 1)[-1] < 1 * PATIENCE
    host.remove(vmid)


def test_a_guest_fills_its_own_disk_with_files(host: Host) -> None:
    """Without a file system of its own this fails: the number of files has no end before that of the host's."""
    vmid = small(host, rootfs="local:0.05")
    fill = "trap 'echo $i' EXIT; mkdir /srv/f; i=0; while [ $i -lt 60000 ] && : > /srv/f/$i; do i=$((i+1)); done"
    _, out, _ = execute(host, vmid, "sh", "-c", fill)
    assert 1000 < int(out.split()[-1]) < 60000, out
    told = host.http.put(f"/bastide/guests/{vmid}/file", params={"path": "/srv/more"}, content=b"x").reason_phrase
    assert "No space left" in told
    host.remove(vmid)


def pace(host: Host, vmid: int, count: int) -> float:
    """Seconds that a command in a guest takes, the median of some."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        assert execute(host, vmid, "true")[0] == 0
        times.append(time.monotonic() - began)
    return statistics.median(times)


@pytest.mark.slow
def test_a_fork_bomb_stays_in_its_guest(host: Host, box: int) -> None:
    """The neighbour's commands take at most twice the time, beside what a loaded machine's scheduler adds."""
    vmid = small(host, memory=96, cores=1, swap=0)
    before = pace(host, box, 20)
    with bomb(host, vmid):
        times = answers_within(host, 8)
        during = pace(host, box, 20)
    assert times[int(len(times) * 0.99)] < 1 * PATIENCE, times[-5:]
    assert during < 2 * before + 0.2 * PATIENCE, (before, during)
    host.remove(vmid)


@pytest.mark.slow
def test_a_million_files_hold_up_nobody(host: Host, box: int) -> None:
    """A guest whose disk has no limit makes a million files; others go on, and it can be removed."""
    vmid = host.create(start=True, memory=256)
    make = "mkdir '/srv/f'; for my $i (1 .. 1_000_000) { open(my $f, '>', '/srv/f/' . $i) or die $! } print 'made'"
    params = [("command", word) for word in ("perl", "-e", make)]
    with opened(host, f"/bastide/guests/{vmid}/exec", params) as socket:
        assert answers_within(host, 10)[-1] < 1 * PATIENCE
        assert b"made" in socket.recv(timeout=300 * PATIENCE)
    assert pace(host, box, 5) < 2 * PATIENCE
    host.remove(vmid)
