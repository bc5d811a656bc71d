"""Control groups of both versions, in folders that look like them."""

from pathlib import Path

import pytest

from bastide.host.cgroups import Cgroups

HYBRID = """\
25 22 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
30 25 0:27 / /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_mountinfo() -> None:
    hybrid = Cgroups.parse(HYBRID)
    assert (hybrid.version, hybrid.unified) == (1, Path("/sys/fs/cgroup/unified"))
    assert hybrid.path("b/100", "cpuacct") == Path("/sys/fs/cgroup/cpu,cpuacct/b/100")
    assert hybrid.path("b/100", "blkio") is None
    assert hybrid.hierarchies("b") == [
        Path("/sys/fs/cgroup") / name / "b" for name in ("cpu,cpuacct", "memory", "systemd", "unified")
    ]
    unified = Cgroups.parse(UNIFIED)
    assert unified == Cgroups(2, Path("/sys/fs/cgroup"), {})
    assert unified.path("b/100", "anything") == Path("/sys/fs/cgroup/b/100")


@pytest.fixture
def unified(tmp_path: Path) -> Cgroups:
    group = tmp_path / "b/100"
    group.mkdir(parents=True)
    for name, text in {
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        "memory.current": "1000\n",
        "memory.swap.current": "7\n",
        "memory.stat": "anon 1\ninactive_file 300\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
        "pids.current": "3\n",
        "memory.events": "low 0\nhigh 1\nmax 9\noom 2\noom_kill 4\noom_group_kill 0\n",
        "cpu.pressure": "some avg10=1.53 avg60=0.87 avg300=0.20 total=1500\nfull avg10=0.00 avg60=0.00 total=20\n",
        "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
        "cgroup.freeze": "0\n",
        "cgroup.events": "populated 1\nfrozen 0\n",
    }.items():
        (group / name).write_text(text)
    return Cgroups(2, tmp_path)


def test_figures_of_version_2(unified: Cgroups) -> None:
    assert unified.cpu_seconds("b/100") == 2.5
    assert unified.memory("b/100") == (700, 7)
    assert unified.disk("b/100") == (11, 22)
    assert unified.process_count("b/100") == 3
    assert unified.pressure("b/100") == {"cpu some": 1500, "cpu full": 20, "memory some": 7}
    assert unified.oom_kills("b/100") == 4
    assert not unified.frozen("b/100")
    unified.freeze("b/100", frozen=True)
    assert unified.frozen("b/100")
    assert not unified.settled("b/100", frozen=True)


def test_figures_of_version_1(tmp_path: Path) -> None:
    for name, text in {
        "cpuacct.usage": "2500000000\n",
        "memory.usage_in_bytes": "1000\n",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 300\ntotal_swap 7\n",
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
        "freezer.state": "FREEZING\n",
    }.items():
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / name).write_text(text)
    groups = Cgroups(1, None, dict.fromkeys(("cpuacct", "memory", "blkio", "freezer"), tmp_path))
    assert groups.cpu_seconds("b") == 2.5
    assert groups.memory("b") == (700, 7)
    assert groups.disk("b") == (10, 20)
    assert groups.frozen("b")
    assert not groups.settled("b", frozen=True)


def test_a_guest_that_vanishes_has_no_figures(tmp_path: Path) -> None:
    groups = Cgroups(2, tmp_path)
    assert groups.memory("gone") == (0, 0)
    assert groups.disk("gone") == (0, 0)
    assert groups.cpu_seconds("gone") == 0
    assert groups.processes("gone") == set()
    groups.remove("gone")


def test_remove_takes_inner_groups_first(tmp_path: Path) -> None:
    (tmp_path / "b/100/ns/init.scope").mkdir(parents=True)
    (tmp_path / "b/101").mkdir()
    Cgroups(2, tmp_path).remove("b/100")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["101"]


def test_what_a_kernel_does_not_count_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "b/100").mkdir(parents=True)
    unified = Cgroups(2, tmp_path)
    assert unified.pressure("b/100") == {}
    assert unified.oom_kills("b/100") is None
    old = Cgroups(1, None, {"memory": tmp_path})
    assert old.pressure("b/100") == {}
    (tmp_path / "b/100/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert old.oom_kills("b/100") == 5
    (tmp_path / "b/100/ns/deeper").mkdir(parents=True)
    for folder in ("ns", "ns/deeper"):
        (tmp_path / "b/100" / folder / "memory.oom_control").write_text("oom_kill 2\n")
    assert old.oom_kills("b/100") == 7
    assert old.oom_kills("b/101") is None
