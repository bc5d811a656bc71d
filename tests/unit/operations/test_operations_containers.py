"""Operations on containers over the fakes: what fails at any step leaves nothing, what works is recorded."""

import asyncio
import itertools
from pathlib import Path

import pytest

from bastide.base.errors import AlreadyExists, BastideError, Conflict, HostFailure, InvalidParameter, Locked, WrongState
from bastide.base.ids import Upid
from bastide.guest.fake import FakeEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.operations import pools
from bastide.operations.ct import configure, power
from bastide.operations.ct.create import Credentials, create_container
from bastide.operations.ct.resize import resize_volume
from bastide.operations.destroy import destroy_guest
from bastide.operations.pending import pending_rows
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.watch import watch_stops
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path)


def _options(**values: object) -> ContainerOptions:
    return ContainerOptions.parse({"hostname": "web", "unprivileged": 1, "rootfs": "local:0", **values})


async def _create(rooms: Rooms, vmid: int = 100, *, start: bool = False, **values: object) -> str:
    upid = await create_container(
        rooms, ROOT, vmid, TEMPLATE, _options(**values), credentials=Credentials("secret"), start=start
    )
    return await _end(rooms, upid)


async def _end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def _volumes(rooms: Rooms) -> list[str]:
    storage = await rooms.storages.get("local")
    return [volume.volid for volume in await storage.list("rootdir")]


async def test_create_start_stop_destroy(rooms: Rooms) -> None:
    assert await _create(rooms, start=True, net0="name=eth0,bridge=vmbr0,ip=dhcp") == "OK"
    guest = await rooms.guests.get(100)
    assert guest.config["ostype"] == "debian"
    assert "hwaddr=" in str(guest.config["net0"])
    assert "lock" not in guest.config
    assert rooms.containers.running() == {100}
    with pytest.raises(WrongState, match="is running"):
        await destroy_guest(rooms, ROOT, 100)
    assert await _end(rooms, await power.stop(rooms, ROOT, 100)) == "OK"
    assert await _end(rooms, await destroy_guest(rooms, ROOT, 100)) == "OK"
    assert await rooms.guests.list() == []
    assert await _volumes(rooms) == []
    assert await rooms.locks.list() == []


@pytest.mark.parametrize("step", ["unpack", "set_credentials", "start"])
async def test_a_failure_leaves_nothing_and_the_next_try_works(rooms: Rooms, step: str) -> None:
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    engine.fail_next[step] = HostFailure("it broke")
    assert await _create(rooms, start=True) == "it broke"
    assert await rooms.guests.list() == []
    assert await _volumes(rooms) == []
    assert await rooms.locks.list() == []
    assert await _create(rooms, start=True) == "OK"


async def test_the_vmid_is_taken_from_the_first_moment(rooms: Rooms) -> None:
    upid = await create_container(rooms, ROOT, 100, TEMPLATE, _options())
    with pytest.raises(AlreadyExists):
        await create_container(rooms, ROOT, 100, TEMPLATE, _options())
    assert await _end(rooms, upid) == "OK"


async def test_id_ranges_do_not_overlap(rooms: Rooms) -> None:
    for vmid in (100, 101, 102):
        await _create(rooms, vmid)
    firsts = sorted(guest.first_id or 0 for guest in await rooms.guests.list())
    assert all(after - before >= 65536 for before, after in itertools.pairwise(firsts))
    assert firsts[0] >= 65536


async def test_two_operations_on_one_guest(rooms: Rooms) -> None:
    await _create(rooms)
    async with rooms.locks.hold(100, "UPID:somebody", "backup"):
        with pytest.raises(Locked, match="somebody"):
            async with rooms.locks.hold(100, "UPID:other", "start", deadline=0.05):
                pass


async def test_changes_of_a_running_container(rooms: Rooms) -> None:
    await _create(rooms, start=True)
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"memory": 1024, "hostname": "other"}))
    guest = await rooms.guests.get(100)
    assert engine.limits[100].memory == 1024
    assert guest.config["memory"] == 1024
    assert guest.config["hostname"] == "web"
    assert guest.pending == {"hostname": "other"}
    assert {"key": "hostname", "value": "web", "pending": "other"} in pending_rows(guest)
    await _end(rooms, await power.stop(rooms, ROOT, 100))
    guest = await rooms.guests.get(100)
    assert (guest.config["hostname"], dict(guest.pending)) == ("other", {})


async def test_a_stop_from_inside_is_followed_by_what_every_stop_is(rooms: Rooms) -> None:
    await _create(rooms, start=True)
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"hostname": "other"}))
    await rooms.containers.stop(100)
    watching = asyncio.create_task(watch_stops(rooms))
    async with asyncio.timeout(10):
        while (await rooms.guests.get(100)).config["hostname"] != "other":
            await asyncio.sleep(0.01)
    watching.cancel()
    assert rooms.containers.ended() == frozenset()
    assert not await rooms.containers.cleanup(100)


async def test_a_failed_change_changes_nothing(rooms: Rooms) -> None:
    await _create(rooms, start=True)
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    before = await rooms.guests.get(100)
    engine.fail_next["add_mount"] = HostFailure("no")
    changes = ContainerOptions.parse({"mp0": "local:0,mp=/data", "memory": 64})
    with pytest.raises(HostFailure):
        await configure.update_config(rooms, ROOT, 100, changes)
    assert (await rooms.guests.get(100)).config == before.config
    assert engine.limits[100].memory is None
    assert len(await _volumes(rooms)) == 1


async def test_a_detached_volume_becomes_unused_and_can_be_deleted(rooms: Rooms) -> None:
    await _create(rooms, mp0="local:0,mp=/data")
    await configure.update_config(rooms, ROOT, 100, ContainerOptions(), delete=["mp0"])
    guest = await rooms.guests.get(100)
    assert "mp0" not in guest.config
    assert len(await _volumes(rooms)) == 2
    again = ContainerOptions.parse({"mp1": f"{guest.config['unused0']},mp=/again"})
    await configure.update_config(rooms, ROOT, 100, again)
    assert "unused0" not in (await rooms.guests.get(100)).config
    await configure.update_config(rooms, ROOT, 100, ContainerOptions(), delete=["mp1"])
    await configure.update_config(rooms, ROOT, 100, ContainerOptions(), delete=["unused0"])
    assert "unused0" not in (await rooms.guests.get(100)).config
    assert len(await _volumes(rooms)) == 1


async def test_a_new_volume_that_is_reverted_is_not_lost(rooms: Rooms) -> None:
    await _create(rooms, start=True, mp0="local:0,mp=/data")
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"mp0": "local:0,mp=/other"}))
    guest = await rooms.guests.get(100)
    assert "mp=/other" in str(guest.pending["mp0"])
    assert len(await _volumes(rooms)) == 3
    await configure.update_config(rooms, ROOT, 100, ContainerOptions(), revert=["mp0"])
    guest = await rooms.guests.get(100)
    assert dict(guest.pending) == {}
    assert str(guest.config["unused0"]).endswith("disk-2.subvol")
    assert await _end(rooms, await destroy_guest(rooms, ROOT, 100, force=True)) == "OK"
    assert await _volumes(rooms) == []


@pytest.mark.parametrize(
    ("changes", "delete", "name"),
    [
        ({"unprivileged": 0}, [], "unprivileged"),
        ({"rootfs": "local:4"}, [], "rootfs"),
        ({}, ["rootfs"], "delete"),
        ({}, ["nonsense"], "delete"),
        ({"net3": "name=eth0"}, [], "net3"),
        ({"mp0": "local:101/vm-101-disk-0.subvol,mp=/x"}, [], "mp0"),
    ],
)
async def test_impossible_changes_are_named(
    rooms: Rooms, changes: dict[str, object], delete: list[str], name: str
) -> None:
    await _create(rooms, net0="name=eth0,bridge=vmbr0")
    await _create(rooms, 101)
    before = await rooms.guests.get(100)
    with pytest.raises(InvalidParameter) as caught:
        await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse(changes), delete=delete)
    assert list(caught.value.errors) == [name]
    assert await rooms.guests.get(100) == before


async def test_a_stale_digest(rooms: Rooms) -> None:
    await _create(rooms)
    digest = (await rooms.guests.get(100)).digest
    await configure.update_config(rooms, ROOT, 100, ContainerOptions(tags="a"), digest=digest)
    with pytest.raises(Conflict):
        await configure.update_config(rooms, ROOT, 100, ContainerOptions(tags="b"), digest=digest)


async def test_resize(rooms: Rooms) -> None:
    await _create(rooms, rootfs="local:1")
    assert await _end(rooms, await resize_volume(rooms, ROOT, 100, "rootfs", "+1G")) == "OK"
    assert str((await rooms.guests.get(100)).config["rootfs"]).endswith("size=2G")
    for disk, size in (("rootfs", "2G"), ("mp0", "4G"), ("rootfs", "big")):
        with pytest.raises(InvalidParameter):
            await resize_volume(rooms, ROOT, 100, disk, size)


@pytest.mark.parametrize("lock", ["create", "destroyed"])
async def test_recovery_removes_halves(rooms: Rooms, lock: str) -> None:
    await _create(rooms)
    guest = await rooms.guests.get(100)
    await rooms.guests.update(guest.with_config({**guest.config, "lock": lock}))
    await recover(rooms)
    assert await rooms.guests.list() == []
    assert await _volumes(rooms) == []


async def test_recovery_frees_journaled_volumes_that_nobody_uses(rooms: Rooms) -> None:
    await _create(rooms)
    used = (await _volumes(rooms))[0]
    storage = await rooms.storages.containers("local")
    orphan = storage.volume_name(100, 7, 0)
    await storage.allocate(orphan, 0)
    holding = rooms.locks.hold(100, "UPID:dead", "config")
    held = await holding.__aenter__()
    await held.record(f"local:{orphan}")
    await held.record(used)
    await recover(rooms)
    assert await _volumes(rooms) == [used]
    assert await rooms.locks.list() == []


async def test_pools(rooms: Rooms) -> None:
    await _create(rooms)
    await pools.create_pool(rooms, "prod", "ours")
    await pools.create_pool(rooms, "test", None)
    await pools.update_pool(rooms, "prod", guests=[100], storages=["local"])
    with pytest.raises(WrongState, match="belongs already"):
        await pools.update_pool(rooms, "test", guests=[100])
    await pools.update_pool(rooms, "test", guests=[100], allow_move=True)
    assert (await pools.get_pool(rooms, "prod")).guests == frozenset()
    with pytest.raises(BastideError, match="not empty"):
        await pools.delete_pool(rooms, "test")
    assert await _end(rooms, await destroy_guest(rooms, ROOT, 100)) == "OK"
    await pools.delete_pool(rooms, "test")
