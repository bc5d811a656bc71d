"""Snapshots of containers over the fakes: what fails or is cut short at any step leaves nothing half done."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    HostFailure,
    InvalidParameter,
    Locked,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.model.guest import GuestState
from bastide.model.snapshot import SnapshotStep
from bastide.operations import snapshots
from bastide.operations.ct import configure, power, snapshot
from bastide.operations.ct.create import create_container
from bastide.operations.destroy import destroy_guest
from bastide.operations.recover import let_go, recover
from bastide.operations.rooms import Rooms
from bastide.storage.fake import FakeStorage
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """A host with the container 100, of two volumes."""
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    options = ContainerOptions.parse(
        {"hostname": "web", "unprivileged": 1, "rootfs": "local:1", "mp0": "local:1,mp=/data", "description": "mine"}
    )
    assert await _end(rooms, await create_container(rooms, ROOT, 100, TEMPLATE, options)) == "OK"
    return rooms


async def _end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def _take(rooms: Rooms, name: str) -> str:
    return await _end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, name, f"about {name}"))


async def _back(rooms: Rooms, name: str, *, start: bool = False) -> str:
    return await _end(rooms, await snapshot.roll_back(rooms, ROOT, 100, name, start=start))


async def _delete(rooms: Rooms, name: str, *, force: bool = False) -> str:
    return await _end(rooms, await snapshot.delete_snapshot(rooms, ROOT, 100, name, force=force))


async def _storage(rooms: Rooms) -> FakeStorage:
    storage = await rooms.storages.get("local")
    assert isinstance(storage, FakeStorage)
    return storage


async def _config(rooms: Rooms) -> Mapping[str, Any]:
    return (await rooms.guests.get(100)).config


async def _data(rooms: Rooms, key: str = "rootfs", text: str | None = None) -> str:
    """What a file of a volume holds; a text is written first."""
    volid = VolumeId.parse(str((await _config(rooms))[key]).partition(",")[0])
    path = (await _storage(rooms)).path(volid.name) / "file"
    if text is not None:
        path.write_text(text)
    return path.read_text()


async def _kept(rooms: Rooms) -> list[list[str]]:
    """The snapshots of every volume."""
    storage = await _storage(rooms)
    volumes = await storage.list("rootdir", 100)
    return [list(await storage.snapshots(VolumeId.parse(volume.volid).name)) for volume in volumes]


def _fail_at(storage: FakeStorage, method: str, nth: int, error: BaseException | None = None) -> None:
    """Let the nth call of a method fail, from now on counted."""
    real: Callable[..., Any] = getattr(storage, method)
    calls = 0

    async def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise error or HostFailure("it broke")
        return await real(*args, **options)

    setattr(storage, method, wrapped)


async def test_there_and_back(rooms: Rooms) -> None:
    await _data(rooms, text="one")
    assert await _take(rooms, "first") == "OK"
    await _data(rooms, text="two")
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"memory": 1024, "description": "yours"}))
    assert await _take(rooms, "second") == "OK"
    await _data(rooms, text="three")
    guest = await rooms.guests.get(100)
    rows = snapshots.rows(rooms, guest)
    assert [(row["name"], row.get("parent"), row["description"]) for row in rows] == [
        ("first", None, "about first"),
        ("second", "first", "about second"),
        ("current", "second", "You are here!"),
    ]
    assert rows[-1]["digest"] == guest.digest
    assert await _back(rooms, "first") == "OK"
    assert await _data(rooms) == "one"
    config = await _config(rooms)
    assert ("memory" in config, config["parent"], config["description"]) == (False, "first", "yours")
    assert await _back(rooms, "second", start=True) == "OK"
    assert (await _data(rooms), (await _config(rooms))["memory"]) == ("two", 1024)
    assert rooms.containers.state(100) is GuestState.RUNNING
    assert await _delete(rooms, "first") == "OK"
    assert [(row["name"], row.get("parent")) for row in snapshots.rows(rooms, await rooms.guests.get(100))] == [
        ("second", None),
        ("current", "second"),
    ]
    assert await _delete(rooms, "second") == "OK"
    assert "parent" not in await _config(rooms)
    assert await _kept(rooms) == [[], []]
    assert await rooms.locks.list() == []


async def test_a_running_container_stands_still_for_the_instant_alone(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    storage, seen = await _storage(rooms), []
    real = storage.snapshot

    async def look(name: str, label: str) -> None:
        seen.append(rooms.containers.state(100))
        await real(name, label)

    storage.snapshot = look  # type: ignore[method-assign]
    assert await _take(rooms, "s1") == "OK"
    assert seen == [GuestState.PAUSED, GuestState.PAUSED]
    assert rooms.containers.state(100) is GuestState.RUNNING
    _fail_at(storage, "snapshot", 2)
    assert await _take(rooms, "s2") == "it broke"
    assert rooms.containers.state(100) is GuestState.RUNNING
    # One that its user has paused stays so.
    await rooms.containers.freeze(100)
    assert await _take(rooms, "s3") == "OK"
    assert rooms.containers.state(100) is GuestState.PAUSED


async def test_a_task_that_is_stopped_thaws(rooms: Rooms) -> None:
    await _end(rooms, await power.start(rooms, ROOT, 100))
    storage, begun = await _storage(rooms), asyncio.Event()

    async def hang(_name: str, _label: str) -> None:
        begun.set()
        await asyncio.sleep(60)

    storage.snapshot = hang  # type: ignore[method-assign]
    upid = await snapshot.take_snapshot(rooms, ROOT, 100, "s1")
    await begun.wait()
    assert rooms.containers.state(100) is GuestState.PAUSED
    await rooms.tasks.stop(upid)
    assert await _end(rooms, upid) == "received interrupt"
    assert rooms.containers.state(100) is GuestState.RUNNING
    assert (await rooms.guests.get(100)).snapshots == {}
    assert "lock" not in await _config(rooms)


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_snapshot_that_fails_leaves_nothing(rooms: Rooms, nth: int) -> None:
    before = await _config(rooms)
    _fail_at(await _storage(rooms), "snapshot", nth)
    assert await _take(rooms, "s1") == "it broke"
    guest = await rooms.guests.get(100)
    assert (guest.snapshots, guest.config) == ({}, before)
    assert await _kept(rooms) == [[], []]
    assert await _take(rooms, "s1") == "OK"


async def test_what_cannot_be_removed_goes_with_the_next_start(rooms: Rooms) -> None:
    storage = await _storage(rooms)
    _fail_at(storage, "snapshot", 2)
    _fail_at(storage, "delete_snapshot", 1)
    assert await _take(rooms, "s1") == "it broke"
    guest = await rooms.guests.get(100)
    assert [one.step for one in guest.snapshots.values()] == ["delete"]
    assert "lock" not in guest.config
    with pytest.raises(WrongState, match="incomplete"):
        await snapshot.roll_back(rooms, ROOT, 100, "s1")
    await let_go(rooms)
    await recover(rooms)
    assert (await rooms.guests.get(100)).snapshots == {}
    assert await _kept(rooms) == [[], []]


async def test_a_rollback_that_fails_at_once_changes_nothing(rooms: Rooms) -> None:
    await _data(rooms, text="one")
    await _take(rooms, "s1")
    await _data(rooms, text="two")
    before = await rooms.guests.get(100)
    _fail_at(await _storage(rooms), "rollback", 1)
    assert await _back(rooms, "s1") == "it broke"
    after = await rooms.guests.get(100)
    assert (after.config, after.snapshots, await _data(rooms)) == (before.config, before.snapshots, "two")


@pytest.mark.parametrize("again", ["try", "restart"])
async def test_a_rollback_that_fails_in_the_middle_is_carried_on(rooms: Rooms, again: str) -> None:
    for key in ("rootfs", "mp0"):
        await _data(rooms, key, "one")
    await _take(rooms, "s1")
    for key in ("rootfs", "mp0"):
        await _data(rooms, key, "two")
    await _end(rooms, await power.start(rooms, ROOT, 100))
    _fail_at(await _storage(rooms), "rollback", 2)
    assert await _back(rooms, "s1", start=True) == "it broke"
    assert (await _config(rooms))["lock"] == "rollback"
    assert "locked (rollback)" in await _end(rooms, await power.start(rooms, ROOT, 100))
    with pytest.raises(Locked):
        await snapshot.take_snapshot(rooms, ROOT, 100, "s2")
    if again == "try":
        assert await _back(rooms, "s1") == "OK"
    else:
        await let_go(rooms)
        await recover(rooms)
    assert [await _data(rooms, key) for key in ("rootfs", "mp0")] == ["one", "one"]
    assert "lock" not in await _config(rooms)
    assert (await rooms.guests.get(100)).snapshots["s1"].step is None


async def test_a_deletion_that_fails(rooms: Rooms) -> None:
    await _take(rooms, "s1")
    storage = await _storage(rooms)
    for nth in (1, 2):
        _fail_at(storage, "delete_snapshot", nth)
    status = await _delete(rooms, "s1")
    assert "could not delete snapshot 's1'" in status
    # Neither volume has lost it, so that it is as good as before.
    assert (await rooms.guests.get(100)).snapshots["s1"].step is None
    _fail_at(storage, "delete_snapshot", 2)
    await _delete(rooms, "s1")
    assert (await rooms.guests.get(100)).snapshots["s1"].step == "delete"
    assert "lock" not in await _config(rooms)
    _fail_at(storage, "delete_snapshot", 2)
    assert await _delete(rooms, "s1", force=True) == "WARNINGS: 1"
    assert (await rooms.guests.get(100)).snapshots == {}


@pytest.mark.parametrize("step", ["prepare", "delete", "rollback"])
async def test_a_restart_leaves_no_halves(rooms: Rooms, step: SnapshotStep) -> None:
    await _data(rooms, text="one")
    await _take(rooms, "s1")
    await _data(rooms, text="two")
    await _end(rooms, await power.start(rooms, ROOT, 100))
    guest = await rooms.guests.get(100)
    half = replace(guest.snapshots["s1"], step=step)
    locks = {"prepare": "snapshot", "delete": "snapshot-delete", "rollback": "rollback"}
    await rooms.guests.update(replace(guest, config={**guest.config, "lock": locks[step]}, snapshots={"s1": half}))
    await rooms.store.put("still/100", "")
    await rooms.containers.freeze(100)
    await let_go(rooms)
    await recover(rooms)
    guest = await rooms.guests.get(100)
    assert "lock" not in guest.config
    assert await rooms.store.list("still/") == []
    if step == "rollback":
        assert (await _data(rooms), guest.snapshots["s1"].step) == ("one", None)
    else:
        assert (await _data(rooms), guest.snapshots, await _kept(rooms)) == ("two", {}, [[], []])
        assert rooms.containers.state(100) is GuestState.RUNNING


async def test_volumes_that_came_and_went(rooms: Rooms) -> None:
    await _data(rooms, "mp0", "one")
    await _take(rooms, "s1")
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"mp1": "local:1,mp=/more"}), delete=["mp0"])
    config = await _config(rooms)
    gone, added = str(config["unused0"]), str(config["mp1"]).partition(",")[0]
    with pytest.raises(WrongState, match="snapshot 's1' still needs"):
        await configure.update_config(rooms, ROOT, 100, ContainerOptions(), delete=["unused0"])
    assert await _back(rooms, "s1") == "OK"
    config = await _config(rooms)
    assert str(config["mp0"]).startswith(gone)
    assert [value for key, value in config.items() if key.startswith("unused")] == [added]
    assert await _end(rooms, await destroy_guest(rooms, ROOT, 100)) == "OK"
    assert await (await _storage(rooms)).list("rootdir") == []


async def test_waiting_changes_are_dropped_and_their_volumes_kept(rooms: Rooms) -> None:
    await _take(rooms, "s1")
    await _end(rooms, await power.start(rooms, ROOT, 100))
    await configure.update_config(
        rooms, ROOT, 100, ContainerOptions.parse({"hostname": "other", "mp0": "local:1,mp=/o"})
    )
    assert await _back(rooms, "s1") == "OK"
    guest = await rooms.guests.get(100)
    assert (guest.pending, guest.config["hostname"]) == ({}, "web")
    assert "unused0" in guest.config


async def test_bind_mounts_are_left_alone(rooms: Rooms, tmp_path: Path) -> None:
    await configure.update_config(rooms, ROOT, 100, ContainerOptions.parse({"mp1": f"{tmp_path},mp=/host"}))
    assert await _take(rooms, "s1") == "OK"
    assert len((await rooms.guests.get(100)).snapshots["s1"].volumes) == 2
    assert await _back(rooms, "s1") == "OK"
    assert "mp1" in await _config(rooms)


async def test_words_about_a_snapshot(rooms: Rooms) -> None:
    await _take(rooms, "s1")
    guest = await rooms.guests.get(100)
    await snapshots.describe(rooms, ROOT, guest, "s1", "better")
    shown = snapshots.shown_config(await rooms.guests.get(100), "s1")
    assert (shown["description"], shown["hostname"], "lock" in shown) == ("better", "web", False)
    with pytest.raises(NotFound, match="does not exist"):
        await snapshots.describe(rooms, ROOT, guest, "s2", "x")


@pytest.mark.parametrize(
    ("name", "error"),
    [("s1", AlreadyExists), ("current", InvalidParameter), ("1x", InvalidParameter), ("a/b", InvalidParameter)],
)
async def test_names_that_are_refused(rooms: Rooms, name: str, error: type[BastideError]) -> None:
    await _take(rooms, "s1")
    with pytest.raises(error):
        await snapshot.take_snapshot(rooms, ROOT, 100, name)


async def test_a_storage_that_takes_none(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = await rooms.guests.get(100)
    assert await snapshots.feature(rooms, guest, "snapshot")
    real = FakeStorage.capabilities.fget
    assert real is not None
    monkeypatch.setattr(
        FakeStorage,
        "capabilities",
        property(lambda self: replace(real(self), snapshots=frozenset(), clones=frozenset())),
    )
    with pytest.raises(NotSupported, match="snapshot feature is not available"):
        await snapshot.take_snapshot(rooms, ROOT, 100, "s1")
    assert not await snapshots.feature(rooms, guest, "snapshot")
    assert await snapshots.feature(rooms, guest, "copy")
    await _end(rooms, await power.start(rooms, ROOT, 100))
    assert not await snapshots.feature(rooms, guest, "copy")
