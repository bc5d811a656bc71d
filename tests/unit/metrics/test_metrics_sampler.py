import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.metrics.rates import GuestCounters, NodeCounters, guest_rates, node_rates
from bastide.metrics.sampler import Sampler
from bastide.model.guest import Guest, Usage
from bastide.model.storage import StorageConfig, StorageUsage

GUEST = Guest(100, "lxc", "n", {"cores": 2, "memory": 1024, "rootfs": "local:100/vm-100-disk-0.raw,size=8G"})
USAGE = Usage(cpu_seconds=10.0, memory=5 << 20, swap=0, disk_read=100, disk_written=200, processes=3)


@dataclass
class Engine:
    usages: dict[int, Usage] = field(default_factory=dict)
    started: float = 1000.0
    bytes: tuple[int, int] = (0, 0)

    def running(self):
        return set(self.usages) | {999}  # 999 ends while it is looked at

    def started_at(self, vmid):
        return self.started

    def usage(self, vmid, *, stalls=False):
        return self.usages.get(vmid)

    def traffic(self, vmid):
        return self.bytes


@dataclass
class Storage:
    config: StorageConfig = field(default_factory=lambda: StorageConfig(storage="local", type="dir", path="/x"))

    async def usage(self):
        return StorageUsage(active=True, total=1000, used=400, available=600)


@pytest.fixture
def world(tmp_path: Path):
    engine = Engine({100: USAGE})
    guests = [GUEST]

    async def list_guests():
        return guests

    async def list_storages():
        return [Storage()]

    async def disk_used(guest):
        return 77

    sampler = Sampler(
        Layout(tmp_path), "n", engine, list_guests=list_guests, list_storages=list_storages, disk_used=disk_used
    )
    yield engine, guests, sampler
    sampler.close()


COUNTERS = GuestCounters(at=0.0, began=1000.0, cpu_seconds=10.0, netin=50, netout=60, diskread=70, diskwrite=80)


def test_rates_are_differences_over_time() -> None:
    now = replace(COUNTERS, at=10.0, cpu_seconds=25.0, netin=150)
    rates = guest_rates(COUNTERS, now)
    assert (rates.cpu, rates.netin, rates.netout) == (1.5, 10.0, 0.0)


def test_pressure_is_the_share_of_the_time_in_percent() -> None:
    earlier = replace(COUNTERS, pressure={"cpu some": 1_000_000, "io full": 5, "memory some": 9})
    now = replace(
        COUNTERS, at=10.0, pressure={"cpu some": 2_000_000, "io full": 99_000_000, "memory some": 1, "new": 1}
    )
    assert guest_rates(earlier, now).pressure == {"cpu some": 10.0, "io full": 100.0}


@pytest.mark.parametrize(
    "now",
    [
        replace(COUNTERS, at=10.0, began=1005.0, cpu_seconds=50.0),  # another run that already used more
        replace(COUNTERS, at=0.0, cpu_seconds=50.0),  # no time between
    ],
)
def test_nothing_is_known_across_a_restart(now: GuestCounters) -> None:
    assert guest_rates(COUNTERS, now).cpu is None
    assert guest_rates(COUNTERS, now).netout is None


def test_a_counter_that_began_anew_never_gives_a_negative_rate() -> None:
    rates = guest_rates(COUNTERS, replace(COUNTERS, at=10.0, netin=0, netout=160))
    assert rates.netin is None  # an interface was unplugged and plugged in again
    assert rates.netout == 10.0


def test_node_shares_stay_between_none_and_all() -> None:
    earlier = NodeCounters(at=0, cpu_total=1000, cpu_idle=500, cpu_iowait=100, netin=0, netout=0)
    later = NodeCounters(at=10, cpu_total=2000, cpu_idle=1250, cpu_iowait=99, netin=10, netout=0)
    rates = node_rates(earlier, later)
    assert rates.cpu == pytest.approx(0.251)
    assert rates.iowait == 0.0


def test_live_shows_the_share_of_the_guests_own_cpus(world) -> None:
    engine, _, sampler = world
    asyncio.run(sampler.sample())
    before = time.monotonic()
    time.sleep(0.05)
    engine.usages[100] = replace(USAGE, cpu_seconds=10.1)
    engine.bytes = (1000, 2000)
    asyncio.run(sampler.sample())
    live = sampler.live(GUEST)
    assert live is not None
    assert 0 < live.cpu <= 0.1 / 2 / 0.05
    assert live.cpu > 0.1 / 2 / (time.monotonic() - before + 1)
    assert (live.cpus, live.netin, live.netout, live.mem) == (2, 1000, 2000, 5 << 20)
    assert sampler.sampled(GUEST) == live
    engine.usages.clear()
    assert sampler.live(GUEST) is None


def test_a_minute_is_recorded_for_node_guest_and_storage(world) -> None:
    engine, _, sampler = world

    async def story():
        now = time.time()
        for later in (0, 60):
            await sampler.sample()
            await sampler.record(now + later - 60)
            engine.usages[100] = replace(USAGE, cpu_seconds=10.2)
            await asyncio.sleep(0.02)
        return [(await sampler.rrddata(target, "hour"))[-1] for target in ("node/n", "guest/100", "storage/local")]

    node, guest, storage = asyncio.run(story())
    assert 0 <= node["cpu"] <= 1
    assert node["memtotal"] > node["memused"] > 0
    assert guest["cpu"] > 0
    assert (guest["maxcpu"], guest["maxmem"], guest["maxdisk"], guest["disk"]) == (2, 1 << 30, 8 << 30, 77)
    assert (storage["total"], storage["used"]) == (1000, 400)


def test_a_minutes_pressure_is_recorded_by_proxmoxs_names(world) -> None:
    engine, _, sampler = world

    async def story():
        now = time.time()
        for total in (0, 1 << 50):
            engine.usages[100] = replace(USAGE, pressure={"cpu full": 0, "memory some": total})
            await sampler.sample()
            await sampler.record(now)
            await asyncio.sleep(0.02)
        rows = await sampler.rrddata("guest/100", "hour")
        return next(row for row in reversed(rows) if "pressurecpufull" in row)  # a minute may have begun meanwhile

    row = asyncio.run(story())
    assert (row["pressurecpufull"], row["pressurememorysome"]) == (0, 100)
    assert "pressureiosome" not in row
    live = sampler.live(GUEST)
    assert live.pressure == {"pressurecpufull": 0, "pressurememorysome": 100}


def test_a_deleted_guest_loses_its_series(world) -> None:
    _, guests, sampler = world

    async def story():
        now = time.time()
        await sampler.sample()
        await sampler.record(now)
        assert await sampler.rrddata("guest/100", "hour")
        guests.clear()
        await sampler.record(now + 60)
        return await sampler.rrddata("guest/100", "hour")

    assert asyncio.run(story()) == []


def test_a_target_without_metrics_is_refused(world) -> None:
    with pytest.raises(InvalidParameter):
        asyncio.run(world[2].rrddata("pool/x", "hour"))
