"""What sampling a hundred guests costs: processes of their own in namespaces and control groups of their own."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.layout import Layout
from bastide.guest.lxc.inspection import Inspection
from bastide.guest.lxc.lifecycle import Lifecycle
from bastide.guest.lxc.runtime import Runtime
from bastide.host import processes
from bastide.metrics.sampler import INTERVAL, MINUTE, Sampler
from bastide.model.guest import Guest

pytestmark = pytest.mark.bench

GUESTS = 100
ROUNDS = 10


class Engine(Lifecycle, Inspection):
    """The real engine's eyes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A hundred stand-ins of containers: a monitor, and a first process in its own groups and namespaces."""
    if os.geteuid() != 0:
        pytest.fail("this benchmark needs root", pytrace=False)
    runtime = Runtime(Layout(tmp_path))
    monitors: list[subprocess.Popen[bytes]] = []
    try:
        for vmid in range(100, 100 + GUESTS):
            monitors.append(subprocess.Popen(["unshare", "--net", "--pid", "--fork", "--kill-child", "sleep", "600"]))
            for folder in runtime.groups.hierarchies(runtime.group(vmid)):
                with contextlib.suppress(OSError):
                    folder.mkdir(parents=True)
        time.sleep(1)
        for vmid, monitor in zip(range(100, 100 + GUESTS), monitors, strict=True):
            (init,) = processes.children(monitor.pid)
            for folder in runtime.groups.hierarchies(runtime.group(vmid)):
                with contextlib.suppress(OSError):  # hierarchies that need more than this to take a process
                    (folder / "cgroup.procs").write_text(str(init))
            runtime._monitors[vmid] = processes.Handle(monitor.pid)
        yield Engine(runtime)
    finally:
        for monitor in monitors:
            monitor.kill()
            monitor.wait()
        time.sleep(0.5)
        runtime.groups.remove(runtime.layout.instance)


def test_sampling_a_hundred_guests_costs_less_than_two_hundredths_of_a_core(
    engine: Engine, tmp_path: Path, report: Any
) -> None:
    guests = [Guest(vmid, "lxc", "n", {"cores": 1}) for vmid in range(100, 100 + GUESTS)]

    async def list_guests() -> list[Guest]:
        return guests

    async def no_storages() -> list[Any]:
        return []

    async def measure() -> tuple[float, float]:
        sampler = Sampler(Layout(tmp_path), "n", engine, list_guests=list_guests, list_storages=no_storages)
        await sampler.sample()
        await sampler.record(time.time() - ROUNDS * MINUTE)
        assert len(sampler._seen) == GUESTS
        begin = time.process_time()
        for _ in range(ROUNDS):
            await sampler.sample()
        sampled = time.process_time()
        for number in range(ROUNDS):
            await sampler.record(time.time() - (ROUNDS - 1 - number) * MINUTE)
        recorded = time.process_time()
        sampler.close()
        return (sampled - begin) / ROUNDS, (recorded - sampled) / ROUNDS

    sample, record = asyncio.run(measure())
    share = sample / INTERVAL + record / MINUTE
    report.add(
        f"sampling {GUESTS} guests", f"{sample * 1000:.1f} ms a sample, {record * 1000:.1f} ms a minute's record", "-",
        f"{share:.2%} of a core", "2 %", met=share < 0.02,
    )  # fmt: skip
    assert share < 0.02
