"""Clones, templates, moves and sizes of containers over the fakes; whatever fails leaves nothing half made."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    Conflict,
    HostFailure,
    InvalidParameter,
    NotFound,
    WrongState,
)
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import GIB
from bastide.guest.fake import FakeEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Guest, GuestState
from bastide.model.storage import StorageConfig
from bastide.operations import pools, snapshots
from bastide.operations.ct import configure, power, snapshot
from bastide.operations.ct.clone import Clone, clone_container
from bastide.operations.ct.create import create_container
from bastide.operations.ct.move import Move, move_volume
from bastide.operations.ct.resize import resize_volume
from bastide.operations.ct.template import make_template
from bastide.operations.destroy import destroy_guest
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.storage.fake import FakeStorage
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """A host with the container 100, of two volumes, and a second storage."""
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    await rooms.storages.add(
        StorageConfig(storage="other", type="dir", path=str(tmp_path / "other"), content="rootdir")
    )
    options = ContainerOptions.parse(
        {"hostname": "web.lan", "unprivileged": 1, "rootfs": "local:1", "mp0": "local:1,mp=/data", "memory": 256,
         "net0": "name=eth0,bridge=vmbr0,ip=dhcp"}
    )  # fmt: skip
    assert await _end(rooms, await create_container(rooms, ROOT, 100, TEMPLATE, options)) == "OK"
    for key in ("rootfs", "mp0"):
        await _data(rooms, 100, key, f"one {key}")
    return rooms


async def _end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def _clone(rooms: Rooms, newid: int = 101, vmid: int = 100, **wish: Any) -> str:
    return await _end(rooms, await clone_container(rooms, ROOT, vmid, Clone(newid, **wish)))


async def _move(rooms: Rooms, **move: Any) -> str:
    return await _end(rooms, await move_volume(rooms, ROOT, 100, Move(**move)))


async def _template(rooms: Rooms) -> str:
    return await _end(rooms, await make_template(rooms, ROOT, 100))


async def _fake(rooms: Rooms, name: str = "local") -> FakeStorage:
    storage = await rooms.storages.get(name)
    assert isinstance(storage, FakeStorage)
    return storage


async def _data(rooms: Rooms, vmid: int, key: str = "rootfs", text: str | None = None) -> str:
    """What a file of a volume holds; a text is written first."""
    volid = VolumeId.parse(str((await rooms.guests.get(vmid)).config[key]).partition(",")[0])
    path = (await _fake(rooms, volid.storage)).path(volid.name) / "file"
    if text is not None:
        path.write_text(text)
    return path.read_text()


async def _volumes(rooms: Rooms) -> set[str]:
    found = [await (await _fake(rooms, name)).list("rootdir") for name in ("local", "other")]
    return {volume.volid for volumes in found for volume in volumes}


def _fail_at(storage: FakeStorage, method: str, nth: int) -> None:
    """Let the nth call of a method fail, from now on counted."""
    real: Callable[..., Any] = getattr(storage, method)
    calls = 0

    async def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise HostFailure("it broke")
        return await real(*args, **options)

    setattr(storage, method, wrapped)


async def _clean(rooms: Rooms, before: tuple[set[str], Guest]) -> None:
    """The container 100 and the volumes are as they were, and nothing else is there."""
    assert await _volumes(rooms) == before[0]
    guest = await rooms.guests.get(100)
    assert (guest.config, guest.snapshots) == (before[1].config, before[1].snapshots)
    assert [guest.vmid for guest in await rooms.guests.list()] == [100]
    assert await rooms.locks.list() == []


# clones


async def test_a_full_clone_is_a_container_of_its_own(rooms: Rooms) -> None:
    await pools.create_pool(rooms, "prod", None)
    await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, "s1"))
    assert await _clone(rooms, hostname="copy", description="a copy", pool="prod") == "OK"
    source, clone = await rooms.guests.get(100), await rooms.guests.get(101)
    assert (clone.config["hostname"], clone.config["description"]) == ("copy", "a copy")
    assert (clone.config["memory"], clone.snapshots) == (256, {})
    assert not {"lock", "parent"} & set(clone.config)
    before, after = ContainerConfig.parse(source.config).net[0], ContainerConfig.parse(clone.config).net[0]
    assert before.hwaddr != after.hwaddr
    assert replace_hwaddr(after, before.hwaddr) == before
    assert source.first_id != clone.first_id
    assert await _data(rooms, 101, "mp0") == "one mp0"
    await _data(rooms, 101, "rootfs", "changed")
    assert await _data(rooms, 100) == "one rootfs"
    assert 101 in (await pools.get_pool(rooms, "prod")).guests
    assert await _clone(rooms, 102) == "OK"
    assert (await rooms.guests.get(102)).config["hostname"] == "web-102.lan"
    assert await _end(rooms, await destroy_guest(rooms, ROOT, 101)) == "OK"
    assert await _data(rooms, 102) == "one rootfs"


def replace_hwaddr(nic: Any, hwaddr: str | None) -> Any:
    return nic.model_copy(update={"hwaddr": hwaddr})


async def test_a_running_container_is_cloned_of_one_instant(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    storage = await _fake(rooms)
    real = storage.copy

    async def late(*args: Any, **options: Any) -> None:
        await _data(rooms, 100, "mp0", "later")
        await real(*args, **options)

    storage.copy = late  # type: ignore[method-assign]
    assert await _clone(rooms) == "OK"
    assert await _data(rooms, 101, "mp0") == "one mp0"
    assert rooms.containers.state(100) is GuestState.RUNNING
    guest = await rooms.guests.get(100)
    assert (guest.snapshots, "lock" in guest.config) == ({}, False)
    assert await storage.snapshots("100/vm-100-disk-0.subvol") == []


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("snapshot_name", [None, "s1"])
async def test_a_clone_on_another_storage(rooms: Rooms, running: bool, snapshot_name: str | None) -> None:
    assert await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, "s1")) == "OK"
    await _data(rooms, 100, "rootfs", "two")
    if running:
        await _end(rooms, await power.start(rooms, ROOT, 100))
    assert await _clone(rooms, storage="other", snapshot=snapshot_name, limit=1e9) == "OK"
    assert str((await rooms.guests.get(101)).config["rootfs"]).startswith("other:")
    assert await _data(rooms, 101) == ("one rootfs" if snapshot_name else "two")
    assert {volid for volid in await _volumes(rooms) if "-101-" in volid and volid.startswith("local")} == set()
    assert set((await rooms.guests.get(100)).snapshots) == {"s1"}
    assert not (await _fake(rooms, "other")).active_volumes


@pytest.mark.parametrize(
    ("storage", "method", "nth"),
    [("local", "copy", 1), ("local", "copy", 2), ("other", "allocate", 2), ("other", "activate", 1),
     ("local", "activate", 2)],
)  # fmt: skip
async def test_a_clone_that_fails_leaves_nothing(rooms: Rooms, storage: str, method: str, nth: int) -> None:
    before = (await _volumes(rooms), await rooms.guests.get(100))
    _fail_at(await _fake(rooms, storage), method, nth)
    wish = {} if method == "copy" else {"storage": "other"}
    assert await _clone(rooms, **wish) == "it broke"
    await _clean(rooms, before)
    assert await _clone(rooms, **wish) == "OK"


@pytest.mark.parametrize("step", ["copying", "set_identity"])
async def test_a_clone_whose_files_fail_leaves_nothing(rooms: Rooms, step: str) -> None:
    before = (await _volumes(rooms), await rooms.guests.get(100))
    assert isinstance(rooms.containers, FakeEngine)
    rooms.containers.fail_next[step] = HostFailure("it broke")
    assert await _clone(rooms, storage="other") == "it broke"
    await _clean(rooms, before)


async def test_a_running_clone_that_is_stopped_leaves_nothing(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    before, begun = (await _volumes(rooms), await rooms.guests.get(100)), asyncio.Event()

    async def hang(*_args: Any, **_options: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    (await _fake(rooms)).copy = hang  # type: ignore[method-assign]
    upid = await clone_container(rooms, ROOT, 100, Clone(101))
    await begun.wait()
    await rooms.tasks.stop(upid)
    await _end(rooms, upid)
    await _clean(rooms, before)


async def test_a_restart_removes_half_a_clone(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    before, begun = (await _volumes(rooms), await rooms.guests.get(100)), asyncio.Event()
    storage = await _fake(rooms)
    real = storage.copy

    async def hang(*args: Any, **_options: Any) -> None:
        await real(*args)
        begun.set()
        await asyncio.sleep(60)

    storage.copy = hang  # type: ignore[method-assign]
    await clone_container(rooms, ROOT, 100, Clone(101))
    await begun.wait()
    # As another daemon finds it: the task of this one never comes back.
    await recover(rooms)
    await _clean(rooms, before)
    assert rooms.containers.state(100) is GuestState.RUNNING


async def test_clones_that_are_refused(rooms: Rooms, tmp_path: Path) -> None:
    await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, "s1"))
    wishes: list[tuple[dict[str, Any], type[BastideError]]] = [
        ({"full": False}, InvalidParameter),
        ({"storage": "nowhere"}, NotFound),
        ({"snapshot": "s2"}, NotFound),
        ({"pool": "nowhere"}, NotFound),
        ({"newid": 100}, AlreadyExists),
    ]
    for wish, error in wishes:
        with pytest.raises(error):
            await clone_container(rooms, ROOT, 100, Clone(**{"newid": 101, **wish}))
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"mp1": f"{tmp_path},mp=/host"}))
    with pytest.raises(WrongState, match="type bind"):
        await clone_container(rooms, ROOT, 100, Clone(101))
    assert [guest.vmid for guest in await rooms.guests.list()] == [100]


# templates


async def test_a_template_and_its_clones(rooms: Rooms) -> None:
    assert await _template(rooms) == "OK"
    guest = await rooms.guests.get(100)
    assert (guest.config["template"], "lock" in guest.config) == (1, False)
    assert str(guest.config["mp0"]) == "local:100/base-100-disk-1.subvol,size=1G,mp=/data"
    assert await snapshots.feature(rooms, guest, "clone")
    assert not await snapshots.feature(rooms, guest, "snapshot")
    ends = await asyncio.gather(*(_clone(rooms, vmid) for vmid in (101, 102, 103)))
    assert ends == ["OK"] * 3
    for vmid in (101, 102, 103):
        assert f"base-100-disk-0.subvol/{vmid}/vm-{vmid}-disk-0" in str((await rooms.guests.get(vmid)).config["rootfs"])
        assert await _data(rooms, vmid, "mp0") == "one mp0"
        assert "template" not in (await rooms.guests.get(vmid)).config
    assert await _clone(rooms, 104, full=True, storage="other") == "OK"
    assert await _data(rooms, 104) == "one rootfs"
    with pytest.raises(InvalidParameter, match="not allowed for linked clones"):
        await clone_container(rooms, ROOT, 100, Clone(105, storage="other"))
    assert "still in use by linked clones" in await _end(rooms, await destroy_guest(rooms, ROOT, 100))
    assert "lock" not in (await rooms.guests.get(100)).config
    for vmid in (101, 102, 103, 100):
        assert await _end(rooms, await destroy_guest(rooms, ROOT, vmid)) == "OK"


async def test_what_a_template_refuses(rooms: Rooms) -> None:
    assert await _template(rooms) == "OK"
    with pytest.raises(WrongState, match="template"):
        await power.start(rooms, ROOT, 100)
    with pytest.raises(WrongState, match="template"):
        await snapshot.take_snapshot(rooms, ROOT, 100, "s1")
    with pytest.raises(WrongState, match="template"):
        await resize_volume(rooms, ROOT, 100, "rootfs", "+1G")
    with pytest.raises(WrongState, match="template"):
        await move_volume(rooms, ROOT, 100, Move("rootfs", storage="other"))
    with pytest.raises(WrongState, match="template"):
        await make_template(rooms, ROOT, 100)
    with pytest.raises(InvalidParameter):
        await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"mp1": "local:1,mp=/x"}))
    with pytest.raises(InvalidParameter):
        await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"template": 0}))
    with pytest.raises(InvalidParameter):
        await configure.update_config(rooms, ROOT, 100, ContainerOptions(), delete=["mp0"])
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"memory": 64, "description": "base"}))


async def test_what_cannot_be_a_template(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    with pytest.raises(WrongState, match="runs"):
        await make_template(rooms, ROOT, 100)
    await _end(rooms, await power.stop(rooms, ROOT, 100))
    await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, "s1"))
    with pytest.raises(WrongState, match="contains snapshots"):
        await make_template(rooms, ROOT, 100)


async def test_a_template_that_fails_at_once_stays_a_container(rooms: Rooms) -> None:
    before = (await _volumes(rooms), await rooms.guests.get(100))
    _fail_at(await _fake(rooms), "make_base", 1)
    assert await _template(rooms) == "it broke"
    await _clean(rooms, before)


@pytest.mark.parametrize("again", ["try", "restart"])
async def test_a_template_that_fails_in_the_middle_is_carried_on(rooms: Rooms, again: str) -> None:
    _fail_at(await _fake(rooms), "make_base", 2)
    assert await _template(rooms) == "it broke"
    assert (await rooms.guests.get(100)).config["lock"] == "disk"
    if again == "try":
        assert await _template(rooms) == "OK"
    else:
        await recover(rooms)
    config = (await rooms.guests.get(100)).config
    assert ("lock" in config, config["template"]) == (False, 1)
    assert all("base-100-disk" in str(config[key]) for key in ("rootfs", "mp0"))
    assert await _clone(rooms) == "OK"


# moves


async def test_a_volume_moves_to_another_storage(rooms: Rooms) -> None:
    old = "local:100/vm-100-disk-1.subvol"
    assert await _move(rooms, key="mp0", storage="other") == "OK"
    config = (await rooms.guests.get(100)).config
    assert str(config["mp0"]).startswith("other:100/vm-100-disk-2.subvol,size=1G,mp=/data")
    assert (await _data(rooms, 100, "mp0"), config["unused0"]) == ("one mp0", old)
    assert await _move(rooms, key="unused0", storage="other", delete=True) == "OK"
    assert str((await rooms.guests.get(100)).config["unused0"]).startswith("other:")
    assert await _move(rooms, key="rootfs", storage="other", delete=True) == "OK"
    assert await _data(rooms, 100) == "one rootfs"
    assert not [volid for volid in await _volumes(rooms) if volid.startswith("local")]


async def test_an_old_volume_that_stays_is_listed(rooms: Rooms) -> None:
    _fail_at(await _fake(rooms), "delete", 1)
    assert await _move(rooms, key="mp0", storage="other", delete=True) == "WARNINGS: 1"
    assert (await rooms.guests.get(100)).config["unused0"] == "local:100/vm-100-disk-1.subvol"


@pytest.mark.parametrize(("method", "nth"), [("allocate", 1), ("activate", 1)])
async def test_a_move_that_fails_leaves_nothing(rooms: Rooms, method: str, nth: int) -> None:
    before = (await _volumes(rooms), await rooms.guests.get(100))
    _fail_at(await _fake(rooms, "other"), method, nth)
    assert await _move(rooms, key="mp0", storage="other", delete=True) == "it broke"
    await _clean(rooms, before)


async def test_a_volume_goes_to_another_container(rooms: Rooms) -> None:
    assert await _clone(rooms) == "OK"
    target = await rooms.guests.get(101)
    await configure.update_config(rooms, ROOT, 101, ContainerOptions(), delete=["mp0"])
    with pytest.raises(Conflict):
        await move_volume(rooms, ROOT, 100, Move("mp0", target_vmid=101, target_digest=target.digest))
    assert await _move(rooms, key="mp0", target_vmid=101, target_key="mp3") == "OK"
    assert "mp0" not in (await rooms.guests.get(100)).config
    assert str((await rooms.guests.get(101)).config["mp3"]) == "local:101/vm-101-disk-2.subvol,size=1G,mp=/data"
    assert await _data(rooms, 101, "mp3") == "one mp0"
    assert "local:100/vm-100-disk-1.subvol" not in await _volumes(rooms)


async def test_moves_that_are_refused(rooms: Rooms) -> None:
    await _clone(rooms)
    moves: list[tuple[Move, type[BastideError]]] = [
        (Move("mp1", storage="other"), InvalidParameter),
        (Move("mp0"), InvalidParameter),
        (Move("mp0", storage="local"), InvalidParameter),
        (Move("mp0", storage="nowhere"), NotFound),
        (Move("rootfs", target_vmid=101, target_key="mp5"), InvalidParameter),
        (Move("mp0", target_vmid=101), InvalidParameter),
        (Move("mp0", target_vmid=101, target_key="mp5"), InvalidParameter),  # mounted at the same place
        (Move("mp0", target_vmid=999), NotFound),
        (Move("mp0", storage="other", digest="0" * 40), Conflict),
    ]
    for move, error in moves:
        with pytest.raises(error):
            await move_volume(rooms, ROOT, 100, move)
    await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, "s1"))
    with pytest.raises(WrongState, match="still needs"):
        await move_volume(rooms, ROOT, 100, Move("mp0", storage="other", delete=True))
    assert await _move(rooms, key="mp0", storage="other") == "OK"
    await _end(rooms, await power.start(rooms, ROOT, 100))
    with pytest.raises(WrongState, match="running"):
        await move_volume(rooms, ROOT, 100, Move("rootfs", storage="other"))


# sizes


async def test_a_volume_shrinks_when_what_it_holds_fits(rooms: Rooms) -> None:
    assert await _end(rooms, await resize_volume(rooms, ROOT, 100, "mp0", "+1G")) == "OK"
    assert await _end(rooms, await resize_volume(rooms, ROOT, 100, "mp0", "512M")) == "OK"
    assert str((await rooms.guests.get(100)).config["mp0"]).endswith("size=512M")
    storage = await _fake(rooms)
    assert (await storage.info("100/vm-100-disk-1.subvol")).size == GIB // 2
    await _data(rooms, 100, "mp0", "x" * 2000)
    before = (await rooms.guests.get(100)).config
    assert "unable to shrink" in await _end(rooms, await resize_volume(rooms, ROOT, 100, "mp0", "1K"))
    assert (await rooms.guests.get(100)).config == before
    await _end(rooms, await power.start(rooms, ROOT, 100))
    with pytest.raises(WrongState, match="running"):
        await resize_volume(rooms, ROOT, 100, "mp0", "256M")
    assert await _end(rooms, await resize_volume(rooms, ROOT, 100, "mp0", "1G")) == "OK"


async def test_a_storage_that_cannot_shrink(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeStorage.capabilities.fget
    assert real is not None
    monkeypatch.setattr(FakeStorage, "capabilities", property(lambda self: replace(real(self), shrinks=False)))
    with pytest.raises(InvalidParameter, match="unable to shrink"):
        await resize_volume(rooms, ROOT, 100, "mp0", "512M")
