"""Limits, CPU sets and id ranges."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.guest.lxc import ids, limits
from bastide.host.cgroups import Cgroups
from bastide.model.container import ContainerConfig


class Recorder(Cgroups):
    """Version 1 that keeps the order of writes and refuses what the kernel would."""

    def __init__(self, memory: int, total: int) -> None:
        object.__setattr__(self, "version", 1)
        self.__dict__["values"] = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": total}

    def has(self, group: str, controller: str, name: str) -> bool:
        return name in self.__dict__["values"]

    def read_int(self, group: str, controller: str, name: str) -> int | None:
        return self.__dict__["values"].get(name)

    def write(self, group: str, controller: str, name: str, value: str) -> None:
        values = {**self.__dict__["values"], name: int(value)}
        if values["memory.limit_in_bytes"] > values["memory.memsw.limit_in_bytes"]:
            raise OSError(22, "Invalid argument")
        self.__dict__["values"] = values


@given(*[st.integers(min_value=16, max_value=1 << 20)] * 2, *[st.integers(min_value=0, max_value=1 << 20)] * 2)
def test_version_1_grows_and_shrinks_in_an_order_the_kernel_takes(old: int, new: int, swap: int, new_swap: int) -> None:
    mib = 1024 * 1024
    groups = Recorder(old * mib, (old + swap) * mib)
    limits.apply_limits(groups, "g", ContainerConfig.parse({"memory": new, "swap": new_swap}))
    assert groups.__dict__["values"]["memory.limit_in_bytes"] == new * mib
    assert groups.__dict__["values"]["memory.memsw.limit_in_bytes"] == (new + new_swap) * mib


def test_a_refusal_names_the_limit(tmp_path: Path) -> None:
    (tmp_path / "g/memory.max").mkdir(parents=True)
    with pytest.raises(HostFailure, match=r"memory\.max"):
        limits.apply_limits(Cgroups(2, tmp_path), "g", ContainerConfig.parse({}))


class Version2(Cgroups):
    """Version 2 that keeps every write; a guest of `needed` bytes that cannot be reclaimed, and a cache beside them."""

    def __init__(self, needed: int, cache: int) -> None:
        object.__setattr__(self, "version", 2)
        self.__dict__.update(needed=needed, current=needed + cache, writes=[])

    def has(self, group: str, controller: str, name: str) -> bool:
        return True

    def read_int(self, group: str, controller: str, name: str) -> int | None:
        return int(self.__dict__["current"]) if name == "memory.current" else None

    def write(self, group: str, controller: str, name: str, value: str) -> None:
        self.__dict__["writes"].append((name, value))
        if name == "memory.high" and value != "max":
            self.__dict__["current"] = max(self.__dict__["needed"], int(value))


def test_version_2_reclaims_a_cache_before_the_limit_and_kills_nothing() -> None:
    mib = 1024 * 1024
    groups = Version2(needed=200 * mib, cache=400 * mib)
    limits.apply_limits(groups, "g", ContainerConfig.parse({"memory": 256}))
    assert groups.__dict__["writes"][:3] == [
        ("memory.high", str(256 * mib)), ("memory.high", "max"), ("memory.max", str(256 * mib)),
    ]  # fmt: skip
    groups = Version2(needed=300 * mib, cache=0)
    with pytest.raises(HostFailure, match="the guest uses more than that now"):
        limits.apply_limits(groups, "g", ContainerConfig.parse({"memory": 256}))
    assert groups.__dict__["writes"] == [("memory.high", str(256 * mib)), ("memory.high", "max")]


def test_cpu_lists() -> None:
    assert limits.parse_cpus("0-2,5,7-7\n") == [0, 1, 2, 5, 7]
    assert limits.parse_cpus("") == []


@given(st.integers(1, 8), st.lists(st.lists(st.integers(0, 7), min_size=1, unique=True), max_size=20))
def test_the_least_loaded_cpus_are_chosen(count: int, used: list[list[int]]) -> None:
    chosen = limits.choose_cpus(count, list(range(8)), used)
    if count == 8:
        assert chosen == []
        return
    load = [sum(cpu in cpus for cpus in used) for cpu in range(8)]
    assert len(set(chosen)) == count
    assert max(load[cpu] for cpu in chosen) <= min([load[cpu] for cpu in range(8) if cpu not in chosen])


def test_a_cpu_set_narrows_from_inside_in_version_1(tmp_path: Path) -> None:
    for folder in ("g", "g/ns"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cpuset.cpus").write_text("0-7")
    limits.apply_cpus(Cgroups(1, None, {"cpuset": tmp_path}), "g", [2, 3])
    assert {(tmp_path / folder / "cpuset.cpus").read_text() for folder in ("g", "g/ns")} == {"2,3"}


@given(st.lists(st.integers(100, 999_999_999), min_size=1, max_size=30), st.lists(st.integers(1, 1 << 29), max_size=5))
def test_ranges_never_meet(vmids: list[int], others: list[int]) -> None:
    reserved = [(first, 70000) for first in others]
    taken: list[int] = []
    for vmid in vmids:
        found = ids.choose(vmid, taken, reserved)
        assert all(abs(found.first - first) >= ids.RANGE for first in taken)
        assert all(found.first >= first + count or first >= found.first + found.count for first, count in reserved)
        taken.append(found.first)


def test_no_range_is_left() -> None:
    with pytest.raises(HostFailure, match="left"):
        ids.choose(100, [], [(ids.FIRST, ids.LAST)])


def test_subordinate_ids() -> None:
    assert ids.parse_subordinate("# x\nroot:100000:65536\nbad\nalice:165536:65536\n") == [
        (100000, 65536),
        (165536, 65536),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root maps ids of others")
def test_the_ids_of_living_user_namespaces_are_seen():
    mine = (423_625_984, 1)
    argv = ["unshare", "--user", "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"  # now it is in the namespace
        assert mine not in ids.in_use()
        Path(f"/proc/{process.pid}/uid_map").write_text(f"0 {mine[0]} {mine[1]}\n")
        assert mine in ids.in_use()
        process.stdin.close()
    assert mine not in ids.in_use()
