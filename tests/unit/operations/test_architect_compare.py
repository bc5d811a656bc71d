"""A comparison's story with guests that only pretend: what is measured, kept, told and left behind."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, NotFound, NotSupported, WrongState
from bastide.host import apt, measure
from bastide.model.access import ROOT
from bastide.model.comparison import Comparison, Figure, Side
from bastide.model.guest import Guest
from bastide.model.storage import StorageConfig
from bastide.operations import temporary
from bastide.operations.architect import compare, compare_chart, compare_guests, compare_native, compare_tools, inside
from bastide.operations.architect.compare import Asked
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox of qemu-img is made by root")
CONTAINERS = Asked(quick=True, runs=2, vm=False)
ANSWERS = {
    "systemctl": "running\n",
    "uname": "6.1.0-test\n",
    "find": "null\ndri/renderD128\n",
    "sh": "../../drivers/virtio_net\n",
    "dd": "",
    "sysbench cpu": "events per second:  1000.00",
    "sysbench memory": "100.00 MiB transferred (50.00 MiB/sec)",
    "fio": json.dumps({"jobs": [{side: {"iops": 5000.0, "bw_bytes": 2**20} for side in ("read", "write")}]}),
    "iperf3": json.dumps({"end": {"sum_received": {"bits_per_second": 8e6}}}),
    "ping": "rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms",
}


class World:
    """What the guests answer, and what was done."""

    def __init__(self) -> None:
        self.answers = dict(ANSWERS)
        self.carried: list[str] = []
        self.iperf: Exception | None = None
        self.install: Exception | None = None
        self.hang = False
        self.hanging = asyncio.Event()

    async def run(self, _rooms: Rooms, _guest: Guest, argv: Sequence[str], **_options: Any) -> inside.Ended:
        name = argv[0].rpartition("/")[2]
        if self.hang and name == "ping":
            self.hanging.set()
            await asyncio.Event().wait()
        answer = self.answers.get(f"{name} {argv[1]}", self.answers.get(name))
        if answer is None:
            raise HostFailure(f"'{name}' failed")
        return inside.Ended(0, answer, "")


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path / "root")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()

    async def install(_rooms: Rooms, _donor: Guest) -> None:
        if found.install is not None:
            raise found.install

    async def carry(_rooms: Rooms, _donor: Guest, guest: Guest, _address: str | None) -> None:
        found.carried.append(guest.name)

    @asynccontextmanager
    async def server(_address: str) -> AsyncIterator[int]:
        if found.iperf is not None:
            raise found.iperf
        yield 5201

    async def amd64() -> str:
        return "amd64"

    monkeypatch.setattr(inside, "run", found.run)
    monkeypatch.setattr(compare_tools, "install", install)
    monkeypatch.setattr(compare_tools, "carry", carry)
    monkeypatch.setattr(measure, "iperf_server", server)
    monkeypatch.setattr(measure, "has_tool", lambda *_: False)
    monkeypatch.setattr(apt, "architecture", amd64)
    monkeypatch.setattr(compare.Asked, "settling", 0.0)
    return found


async def ended(rooms: Rooms, asked: Asked) -> tuple[str | None, list[str]]:
    upid = await compare.compare(rooms, ROOT, asked)
    record = await rooms.tasks.wait(upid)
    lines, _ = await rooms.tasks.log(upid, 0, 500)
    return record.exitstatus, [line.t for line in lines]


async def nothing_is_left(rooms: Rooms) -> bool:
    return not await rooms.guests.list() and not await rooms.store.list("comparing/") and not rooms.engines.running()


async def test_containers_are_measured_and_nothing_is_left(rooms: Rooms, world: World) -> None:
    status, lines = await ended(rooms, CONTAINERS)
    assert status == "OK"
    found = await compare.latest(rooms)
    assert found is not None
    assert (found.quick, found.runs, found.vm, found.native) == (True, 2, None, {})
    assert set(found.ct.figures) == set(compare.TITLES)
    assert found.ct.missing == {}
    assert [len(found.ct.figures[one].values) for one in ("deploy", "memory", "cpu_all", "net_out")] == [2, 2, 4, 4]
    assert found.ct.figures["memory"].median == 10 << 20
    assert found.ct.figures["memory_bandwidth"].median == 50 * 2**20
    assert found.ct.hardware["device nodes"] == "dri/renderD128"
    assert len(world.carried) == 2
    assert await nothing_is_left(rooms)
    shares = [int(line.split("%")[0]) for line in lines if "%" in line]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)


async def test_quick_measures_one_container_and_starts_three(rooms: Rooms, world: World) -> None:
    assert (await ended(rooms, Asked(quick=True, vm=False)))[0] == "OK"
    found = await compare.latest(rooms)
    assert found is not None
    assert [len(found.ct.figures[one].values) for one in ("deploy", "start", "stop", "memory")] == [3, 3, 3, 1]
    assert len(world.carried) == 1


async def test_without_iperf3_on_the_host_the_network_is_missing(rooms: Rooms, world: World) -> None:
    world.iperf = NotSupported("iperf3 is not installed")
    assert (await ended(rooms, CONTAINERS))[0] == "OK"
    found = await compare.latest(rooms)
    assert found is not None
    assert found.ct.missing == dict.fromkeys(
        ("net_out", "net_in"), "iperf3 is not installed on the host: apt-get install iperf3"
    )
    assert "net_latency" in found.ct.figures


async def test_without_tools_the_rest_is_measured(rooms: Rooms, world: World) -> None:
    world.install = HostFailure("no mirror answers")
    status, _ = await ended(rooms, CONTAINERS)
    assert status == "WARNINGS: 1"
    found = await compare.latest(rooms)
    assert found is not None
    assert {"deploy", "start", "stop", "memory", "disk", "density", "net_latency"} == set(found.ct.figures)
    assert "no mirror answers" in found.ct.missing["cpu_single"]
    assert world.carried == []


async def test_a_tool_that_fails_costs_its_measure_alone(rooms: Rooms, world: World) -> None:
    del world.answers["sysbench memory"]
    world.answers["fio"] = "fio: engine libaio not loadable"
    assert (await ended(rooms, CONTAINERS))[0] == "OK"
    found = await compare.latest(rooms)
    assert found is not None
    assert set(found.ct.missing) == {"memory_bandwidth", "disk_read_4k", "disk_write_4k", "disk_read", "disk_write"}
    assert "JSON" in found.ct.missing["disk_read"]


async def test_a_guest_that_fails_is_told_and_removed(
    rooms: Rooms, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = compare_guests.start, []

    async def start(stage: Any, kind: Any, guest: Guest) -> float:
        started.append(guest.vmid)
        if len(started) == 2:  # the first one holds the tools
            raise HostFailure("no memory left")
        return await real(stage, kind, guest)

    monkeypatch.setattr(compare_guests, "start", start)
    status, lines = await ended(rooms, CONTAINERS)
    assert status == "WARNINGS: 1"
    assert any("no memory left" in line for line in lines)
    found = await compare.latest(rooms)
    assert found is not None
    assert [len(found.ct.figures[one].values) for one in ("deploy", "start")] == [2, 1]
    assert found.ct.missing == {}
    assert await nothing_is_left(rooms)


async def test_a_stopped_comparison_leaves_nothing_and_keeps_nothing(rooms: Rooms, world: World) -> None:
    world.hang = True
    upid = await compare.compare(rooms, ROOT, CONTAINERS)
    await asyncio.wait_for(world.hanging.wait(), 20)
    assert len(await rooms.guests.list()) == 2
    with pytest.raises(WrongState, match="a comparison runs already"):
        await compare.compare(rooms, ROOT, CONTAINERS)
    await rooms.tasks.stop(upid)
    await rooms.tasks.wait(upid)
    assert await compare.latest(rooms) is None
    assert await nothing_is_left(rooms)


async def abandoned(rooms: Rooms, world: World) -> None:
    """Leave what a daemon leaves that dies in a comparison."""
    world.hang = True
    upid = await compare.compare(rooms, ROOT, CONTAINERS)
    await asyncio.wait_for(world.hanging.wait(), 20)
    entries = await rooms.store.list("comparing/")
    guests = await rooms.guests.list()
    await rooms.tasks.stop(upid)
    await rooms.tasks.wait(upid)
    world.hang = False
    for entry in entries:
        await rooms.store.put(entry.key, entry.value)
    for guest in guests:
        await rooms.guests.create(guest)


async def test_the_next_daemon_removes_what_a_dead_one_left(rooms: Rooms, world: World) -> None:
    await abandoned(rooms, world)
    await recover(rooms)
    assert await rooms.guests.list() == []
    assert await temporary.left(rooms, "comparing") == []
    assert await nothing_is_left(rooms)


async def test_the_next_comparison_removes_what_was_left(rooms: Rooms, world: World) -> None:
    await abandoned(rooms, world)
    status, lines = await ended(rooms, CONTAINERS)
    assert status == "OK"
    assert sum("which an earlier comparison left" in line for line in lines) == 2
    assert await nothing_is_left(rooms)


async def test_somebodys_guest_with_a_vmid_of_ours_stays(rooms: Rooms, world: World) -> None:
    await rooms.guests.create(Guest(vmid=900_000_000, kind="lxc", node="pve", config={"hostname": "precious"}))
    await rooms.store.put("comparing/900000000", "compare-ct-00000000")
    await recover(rooms)
    assert [guest.name for guest in await rooms.guests.list()] == ["precious"]
    assert await rooms.store.list("comparing/") == []


@as_root
async def test_both_kinds_are_measured(rooms: Rooms, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    image = rooms.layout.local_storage / "import/debian-12-cloud_1_amd64.raw"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1 << 20))

    async def answers(_vmid: int) -> bool:
        return True

    monkeypatch.setattr(rooms.vms, "agent_answers", answers)
    status, lines = await ended(rooms, Asked(quick=True))
    found = await compare.latest(rooms)
    assert status == "OK", lines
    assert found is not None
    assert found.vm is not None
    assert found.vm.emulated == (rooms.vms.accelerator[0] == "tcg")
    assert found.vm.isolation["kernel"] == "its own (6.1.0-test)"
    assert found.vm.hardware["devices"] == "virtio_net"
    assert len(found.vm.figures["start"].values) == 1
    assert found.ratio("cpu_single") == 1
    assert await nothing_is_left(rooms)


async def test_a_storage_that_is_not_there_is_refused(rooms: Rooms, world: World) -> None:
    with pytest.raises(NotFound):
        await compare.compare(rooms, ROOT, Asked(storage="nowhere"))


async def test_an_image_that_nobody_knows_ends_the_task(rooms: Rooms, world: World) -> None:
    status, _ = await ended(rooms, Asked(vm=False, image="plan9-4"))
    assert status is not None
    assert "plan9-4" in status


def some(taken: str = "2026-11-27T00:00:00Z", *, vm: bool = True, emulated: bool = True) -> Comparison:
    ct = {"start": Figure.of("s", [1.0, 1.2, 1.5]), "memory": Figure.of("B", [24 << 20])}
    other = {"start": Figure.of("s", [80.0]), "memory": Figure.of("B", [300 << 20])}
    return Comparison(
        taken=taken, quick=True, runs=3, image="debian-12", host={"processor": "4 x Test"},
        ct=Side(kind="ct", figures=ct), vm=Side(kind="vm", figures=other, emulated=emulated) if vm else None,
    )  # fmt: skip


async def test_the_last_twenty_are_kept(rooms: Rooms) -> None:
    assert await compare.latest(rooms) is None
    moments = [f"2026-11-{day:02}T00:00:00Z" for day in range(1, 26)]
    for moment in moments:
        await compare.keep(rooms, some(moment))
    assert [one.taken for one in await compare.kept(rooms)] == moments[:4:-1]
    latest = await compare.latest(rooms)
    assert latest is not None
    assert latest.taken == moments[-1]
    assert await compare.taken_at(rooms, moments[10]) == some(moments[10])
    with pytest.raises(NotFound):
        await compare.taken_at(rooms, moments[0])


def test_a_chart_is_the_same_every_time_and_says_emulated() -> None:
    picture = compare_chart.draw(some(), "svg")
    assert compare_chart.draw(some(), "svg") == picture
    text = picture.decode()
    assert "VM emulated, without KVM" in text
    assert "start to ready" in text
    assert "stop" not in {line.strip() for line in text.splitlines()}
    assert "emulated" not in compare_chart.draw(some(emulated=False), "svg").decode()


async def test_a_chart_is_drawn_in_a_process_of_its_own(rooms: Rooms) -> None:
    picture = await compare_chart.chart(rooms.layout, some(vm=False), "png")
    assert picture.startswith(b"\x89PNG\r\n")


async def test_the_host_is_measured_only_with_tools(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def native(argv: Sequence[str], _deadline: float) -> str:
        if argv[0] == "fio":
            raise NotSupported("fio is not installed")
        return ANSWERS.get(f"{argv[0]} {argv[1]}", "")

    monkeypatch.setattr(measure, "has_tool", lambda *_: True)
    monkeypatch.setattr(measure, "native", native)
    before = sorted(rooms.layout.local_storage.iterdir())
    found = await compare_native.measured(rooms, "local", CONTAINERS.suite())
    assert set(found) == {"cpu_single", "cpu_all", "memory_bandwidth"}
    assert sorted(rooms.layout.local_storage.iterdir()) == before


async def test_a_vm_cannot_be_put_where_no_disks_are(rooms: Rooms, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    await rooms.storages.add(
        StorageConfig(storage="only", type="dir", path=str(tmp_path / "folder"), content="rootdir")
    )
    with pytest.raises(NotSupported):
        await compare.compare(rooms, ROOT, Asked(storage="only"))
