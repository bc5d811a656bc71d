"""Snapshots of VMs over the fakes: what is kept comes back, and whatever fails or dies leaves nothing half made."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    Locked,
    NoSpace,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import Upid
from bastide.model.access import ROOT
from bastide.model.guest import GuestState
from bastide.model.vm import VmOptions
from bastide.operations import snapshots
from bastide.operations.destroy import destroy_guest
from bastide.operations.recover import let_go, recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent, configure, hibernate, power, snapshot, stillness
from bastide.operations.vm.create import create_vm
from framework.mortal import Died, Life
from framework.vm_fakes import World

pytestmark = pytest.mark.anyio

MIXED = {"scsi0": "local:0.001,format=qcow2", "scsi1": "local:0.001", "efidisk0": "local:1", "bios": "ovmf"}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = await World.make(tmp_path)
    template = tmp_path / "vars.fd"
    template.write_bytes(b"variables".ljust(4096, b"\0"))
    world.vms.answers["efi_variables"] = template
    return world


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def create(world: World, vmid: int = 100, *, start: bool = False, **values: object) -> None:
    options = VmOptions.parse({"name": "db", **(values or MIXED)})
    upid = await create_vm(world.rooms, ROOT, vmid, options, start=start)
    assert await end(world.rooms, upid) == "OK"


async def take(world: World, name: str = "before", *, memory: bool = False, rooms: Rooms | None = None) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, name, "words", memory=memory))


async def back(world: World, name: str = "before", *, start: bool = False, rooms: Rooms | None = None) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await snapshot.roll_back(rooms, ROOT, 100, name, start=start))


async def delete(world: World, name: str = "before", *, force: bool = False, rooms: Rooms | None = None) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await snapshot.delete_snapshot(rooms, ROOT, 100, name, force=force))


async def config(world: World, vmid: int = 100) -> dict[str, Any]:
    return dict((await world.rooms.guests.get(vmid)).config)


def write(world: World, text: bytes, *names: str) -> None:
    for name in names or ("100/vm-100-disk-0.qcow2", "100/vm-100-disk-1.raw"):
        path = world.storage.path(name)
        path.write_bytes(text.ljust(path.stat().st_size, b"\0"))


def read(world: World, name: str) -> bytes:
    return world.storage.path(name).read_bytes().rstrip(b"\0")


def told(world: World, *actions: str) -> list[str]:
    return [action for action, *_ in world.vms.told if action in actions]


async def kept(world: World) -> dict[str, list[str]]:
    found = {name: list(await world.storage.snapshots(name)) for name in await world.volumes()}
    return {name: names for name, names in found.items() if names}


async def test_a_stopped_vm_is_as_it_was(world: World) -> None:
    await create(world)
    write(world, b"first")
    before = await config(world)
    assert await take(world) == "OK"
    write(world, b"second")
    await configure.update_config(world.rooms, ROOT, 100, VmOptions.parse({"memory": "1024", "description": "now"}))
    assert await back(world) == "OK"
    assert read(world, "100/vm-100-disk-0.qcow2") == read(world, "100/vm-100-disk-1.raw") == b"first"
    after = await config(world)
    assert after.pop("vmgenid") != before.pop("vmgenid")
    assert after == {**before, "parent": "before", "description": "now"}
    assert world.vms.running() == frozenset()
    assert await back(world, start=True) == "OK"
    assert world.vms.running() == {100}


async def test_the_tree(world: World) -> None:
    await create(world)
    for name in ("one", "two"):
        assert await take(world, name) == "OK"
    assert await back(world, "one") == "OK"
    assert await take(world, "three") == "OK"
    rows = snapshots.rows(world.rooms, await world.rooms.guests.get(100))
    assert {row["name"]: row.get("parent") for row in rows} == {
        "one": None, "two": "one", "three": "one", "current": "three",
    }  # fmt: skip
    assert await delete(world, "one") == "OK"
    rows = snapshots.rows(world.rooms, await world.rooms.guests.get(100))
    assert {row["name"]: row.get("parent") for row in rows} == {"two": None, "three": None, "current": "three"}
    assert {name for names in (await kept(world)).values() for name in names} == {"two", "three"}


async def test_disks_of_a_running_vm_are_taken_at_one_point(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(world, start=True)
    seen = []
    plain = world.storage.snapshot

    async def look(name: str, snap: str) -> None:
        seen.append((name, world.vms.state(100)))
        await plain(name, snap)

    monkeypatch.setattr(world.storage, "snapshot", look)
    assert await take(world) == "OK"
    assert dict(seen) == dict.fromkeys(
        ("100/vm-100-disk-0.qcow2", "100/vm-100-disk-1.raw", "100/vm-100-disk-2.raw"), GuestState.PAUSED
    )
    assert told(world, "pause", "snapshot_disks", "resume") == ["pause", "snapshot_disks", "resume"]
    assert world.vms.state(100) is GuestState.RUNNING
    assert await delete(world) == "OK"
    assert told(world, "delete_disk_snapshot") == ["delete_disk_snapshot"]
    assert await kept(world) == {}


async def test_qcow2_disks_alone_need_no_pause(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001,format=qcow2")
    assert await take(world) == "OK"
    assert told(world, "pause", "resume", "snapshot_disks") == ["snapshot_disks"]


async def test_a_paused_vm_stays_paused(world: World) -> None:
    await create(world, start=True)
    await world.vms.pause(100)
    assert await take(world) == "OK"
    assert world.vms.state(100) is GuestState.PAUSED


async def test_memory_goes_with_the_disks(world: World) -> None:
    await create(world, start=True)
    write(world, b"first")
    assert await take(world, memory=True) == "OK"
    assert world.vms.state(100) is GuestState.RUNNING
    volume = "100/vm-100-state-before.raw"
    assert volume in await world.volumes()
    write(world, b"second")
    await end(world.rooms, await power.stop(world.rooms, ROOT, 100))
    assert await back(world) == "OK"
    assert told(world, "start_from") == ["start_from"]
    assert world.vms.running() == {100}
    assert read(world, "100/vm-100-disk-1.raw") == b"first"
    assert await back(world) == "OK"
    assert await delete(world) == "OK"
    assert volume not in await world.volumes()


async def test_memory_of_a_stopped_vm_is_none(world: World) -> None:
    await create(world)
    assert await take(world, memory=True) == "OK"
    assert (await world.rooms.guests.get(100)).snapshots["before"].vmstate is None


async def test_volumes_that_came_later_stay_unused(world: World) -> None:
    await create(world)
    assert await take(world) == "OK"
    await configure.update_config(world.rooms, ROOT, 100, VmOptions.parse({"scsi2": "local:0.001"}), delete=["scsi1"])
    assert await back(world) == "OK"
    after = await config(world)
    assert after["unused0"] == "local:100/vm-100-disk-3.raw" or after["unused1"] == "local:100/vm-100-disk-3.raw"
    assert str(after["scsi1"]).startswith("local:100/vm-100-disk-1.raw")
    assert "scsi2" not in after
    assert "local:100/vm-100-disk-1.raw" not in {after.get("unused0"), after.get("unused1")}


async def test_the_configuration_drive_and_images_are_left_alone(world: World) -> None:
    await create(world, scsi0="local:0.001", ide2="local:cloudinit", sata0="none,media=cdrom")
    assert await take(world) == "OK"
    assert set(await kept(world)) == {"100/vm-100-disk-0.raw"}
    assert await back(world, start=True) == "OK"


async def test_the_agent_stills_the_file_systems(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001,format=qcow2", agent="1")
    world.vms.answers |= {"guest-ping": {}, "guest-fsfreeze-freeze": 2, "guest-fsfreeze-thaw": 2}
    assert await take(world) == "OK"
    order = [entry[2] if entry[0] == "ask" else entry[0] for entry in world.vms.told]
    assert order[-3:] == ["guest-fsfreeze-freeze", "snapshot_disks", "guest-fsfreeze-thaw"]
    assert await world.rooms.store.list("frozen/") == []


async def test_an_agent_that_hangs_is_thawed_and_a_warning(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001,format=qcow2", agent="1")
    world.vms.answers |= {
        "guest-ping": {},
        "guest-fsfreeze-freeze": DeadlineExceeded("it hangs"),
        "guest-fsfreeze-thaw": 0,
    }
    assert await take(world) == "WARNINGS: 1"
    async with asyncio.timeout(5):
        while await world.rooms.store.list("frozen/"):
            await asyncio.sleep(0.01)
    assert ("ask", 100, "guest-fsfreeze-thaw", None) in world.vms.told
    assert "before" in (await world.rooms.guests.get(100)).snapshots


async def test_a_failing_snapshot_thaws(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001,format=qcow2", agent="1")
    world.vms.answers |= {"guest-ping": {}, "guest-fsfreeze-freeze": 2, "guest-fsfreeze-thaw": 2}
    world.vms.fail_next["snapshot_disks"] = HostFailure("no")
    assert await take(world) == "no"
    assert world.vms.told[-1][2] == "guest-fsfreeze-thaw" or ("ask", 100, "guest-fsfreeze-thaw", None) in world.vms.told
    assert await world.rooms.store.list("frozen/") == []


async def test_a_thaw_that_fails_is_tried_again(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001,format=qcow2", agent="1")
    thaws = iter([HostFailure("busy"), 2])

    def answer(_arguments: object) -> int:
        result = next(thaws)
        if isinstance(result, BastideError):
            raise result
        return result

    world.vms.answers |= {"guest-ping": {}, "guest-fsfreeze-freeze": 2, "guest-fsfreeze-thaw": answer}
    assert await take(world) == "WARNINGS: 1"
    async with asyncio.timeout(5):
        while await world.rooms.store.list("frozen/"):
            await asyncio.sleep(0.01)
    assert next(thaws, None) is None


@pytest.mark.parametrize(
    ("fault", "memory"),
    [(fault, False) for fault in ("pause", "snapshot_disks", "snapshot")]
    + [(fault, True) for fault in ("save_memory", "snapshot_disks", "snapshot", "allocate_disk")],
)
async def test_whatever_fails_leaves_nothing(world: World, fault: str, memory: bool) -> None:
    await create(world, start=True)
    volumes, before = await world.volumes(), await config(world)
    place = world.storage.faults if fault in ("snapshot", "allocate_disk") else world.vms.fail_next
    place[fault] = NoSpace("full")  # type: ignore[index]
    where = "storage 'local': " if fault == "save_memory" else ""
    assert await take(world, memory=memory) == f"{where}full"
    assert await config(world) == before
    assert (await world.rooms.guests.get(100)).snapshots == {}
    assert await world.volumes() == volumes
    assert await kept(world) == {}
    assert world.vms.state(100) is GuestState.RUNNING
    assert await world.rooms.locks.list() == []
    assert await take(world, memory=memory) == "OK"


async def test_a_rollback_that_cannot_begin_changes_nothing(world: World) -> None:
    await create(world)
    assert await take(world) == "OK"
    before = await config(world)
    world.storage.faults["rollback"] = HostFailure("no")
    assert await back(world) == "no"
    assert await config(world) == before
    await world.storage.delete_snapshot("100/vm-100-disk-1.raw", "before")
    assert "has no snapshot 'before'" in await back(world)
    assert await config(world) == before


async def test_a_storage_that_goes_back_by_one_is_asked_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(world, start=True)
    for name in ("one", "two"):
        assert await take(world, name) == "OK"
    can = replace(world.storage.capabilities, latest_only=True)
    monkeypatch.setattr(type(world.storage), "capabilities", property(lambda _self: can))
    assert "'one' is not most recent snapshot" in await back(world, "one")
    assert world.vms.state(100) is GuestState.RUNNING
    assert await back(world, "two") == "OK"


async def test_what_a_storage_will_not_let_go_of_stays(world: World) -> None:
    await create(world)
    assert await take(world) == "OK"
    world.storage.faults["delete_snapshot"] = WrongState("a clone builds on it")
    assert "a clone builds on it" in await delete(world)
    assert await delete(world) == "OK"
    assert await take(world) == "OK"
    world.storage.faults["delete_snapshot"] = WrongState("a clone builds on it")
    assert (await delete(world, force=True)).startswith("WARNINGS")
    assert (await world.rooms.guests.get(100)).snapshots == {}


async def test_what_is_refused_at_once(world: World) -> None:
    await create(world, start=True, scsi0="local:1")
    refused: list[tuple[type[BastideError], str]] = [
        (InvalidParameter, "a"), (InvalidParameter, "current"), (InvalidParameter, "a b"),
    ]  # fmt: skip
    for error, name in refused:
        with pytest.raises(error):
            await snapshot.take_snapshot(world.rooms, ROOT, 100, name)
    assert await take(world) == "OK"
    with pytest.raises(AlreadyExists):
        await snapshot.take_snapshot(world.rooms, ROOT, 100, "before")
    with pytest.raises(NotFound):
        await snapshot.roll_back(world.rooms, ROOT, 100, "nothing")
    with pytest.raises(NotFound):
        await snapshot.delete_snapshot(world.rooms, ROOT, 100, "nothing")
    guest = await world.rooms.guests.get(100)
    await world.rooms.guests.update(guest.with_config({**guest.config, "lock": "migrate"}))
    for call in (snapshot.take_snapshot, snapshot.delete_snapshot, snapshot.roll_back):
        with pytest.raises(Locked):
            await call(world.rooms, ROOT, 100, "other" if call is snapshot.take_snapshot else "before")


async def test_devices_of_the_host_have_no_past(world: World, tmp_path: Path) -> None:
    device = tmp_path / "disk.raw"
    device.write_bytes(b"\0" * 4096)
    await create(world, scsi0="local:0.001", scsi1=str(device))
    with pytest.raises(NotSupported, match="scsi1 is a device of the host"):
        await snapshot.take_snapshot(world.rooms, ROOT, 100, "before")
    assert not await snapshot.feature(world.rooms, await world.rooms.guests.get(100), "snapshot")


async def test_a_running_vm_does_not_stand_still_for_a_copy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(world, start=True, scsi0="local:1", scsi1="local:1,format=qcow2")
    can = replace(world.storage.capabilities, instant=frozenset())
    monkeypatch.setattr(type(world.storage), "capabilities", property(lambda _self: can))
    with pytest.raises(NotSupported, match=r"scsi0 \(raw\)"):
        await snapshot.take_snapshot(world.rooms, ROOT, 100, "before")
    assert not await snapshot.feature(world.rooms, await world.rooms.guests.get(100), "snapshot")
    await end(world.rooms, await power.stop(world.rooms, ROOT, 100))
    assert await snapshot.feature(world.rooms, await world.rooms.guests.get(100), "snapshot")


async def test_a_destroyed_vm_takes_its_snapshots_along(world: World) -> None:
    await create(world, start=True)
    assert await take(world, memory=True) == "OK"
    assert await end(world.rooms, await destroy_guest(world.rooms, ROOT, 100, force=True)) == "OK"
    assert await world.volumes() == set()


async def test_the_next_daemon_lets_a_vm_go_on(world: World) -> None:
    await create(world, start=True)
    await world.vms.pause(100)
    await world.rooms.store.put("standing/100", "")
    await world.rooms.store.put("standing/999", "")
    await stillness.let_go(world.rooms)
    assert world.vms.state(100) is GuestState.RUNNING
    assert await world.rooms.store.list("standing/") == []


async def _dies(world: World, act: str, deadly: int, *, memory: bool) -> bool:
    """Do something with a daemon that dies at that point; whether it came so far."""
    life = Life(deadly)
    rooms = world.daemon(life)
    with contextlib.suppress(Died):
        if act == "take":
            await take(world, memory=memory, rooms=rooms)
        elif act == "back":
            await back(world, rooms=rooms)
        else:
            await delete(world, rooms=rooms)
    return life.dead


@pytest.mark.parametrize(("act", "memory"), [("take", False), ("take", True), ("back", True), ("delete", True)])
async def test_a_daemon_that_dies_anywhere(world: World, tmp_path: Path, act: str, memory: bool) -> None:
    deadly, points = 0, True
    while points:
        world = await World.make(tmp_path / str(deadly), world)
        await create(world, start=True, scsi0="local:0.001,format=qcow2", scsi1="local:0.001", agent="1")
        world.vms.answers |= {"guest-ping": {}, "guest-fsfreeze-freeze": 2, "guest-fsfreeze-thaw": 2}
        write(world, b"first")
        if act != "take":
            assert await take(world, memory=memory) == "OK"
            write(world, b"second")
        points = await _dies(world, act, deadly, memory=memory)
        await let_go(world.rooms)
        await recover(world.rooms)
        await agent.thaw_forgotten(world.rooms)
        await _is_sound(world, act, deadly)
        deadly += 1
        assert deadly < 200
    assert deadly > 10


async def _is_sound(world: World, act: str, deadly: int) -> None:
    guest = await world.rooms.guests.get(100)
    assert "lock" not in guest.config, deadly
    assert await world.rooms.locks.list() == []
    assert await world.rooms.store.list("standing/") == []
    async with asyncio.timeout(5):
        while await world.rooms.store.list("frozen/"):
            await asyncio.sleep(0.01)
    assert all(snap.step is None for snap in guest.snapshots.values()), deadly
    names = set(guest.snapshots)
    assert {name for found in (await kept(world)).values() for name in found} == names, deadly
    states = {volume for volume in await world.volumes() if "-state-" in volume}
    assert states == {str(s.vmstate).partition(":")[2] for s in guest.snapshots.values() if s.vmstate}, deadly
    if act != "back":
        assert world.vms.state(100) is GuestState.RUNNING, deadly
    elif names and world.vms.state(100) is GuestState.STOPPED:
        assert read(world, "100/vm-100-disk-1.raw") in (b"first", b"second"), deadly
    if act == "take":
        assert await (take(world) if not names else back(world)) in ("OK", "WARNINGS: 1"), deadly
    elif act == "back":
        assert await back(world, start=True) == "OK", deadly
        assert read(world, "100/vm-100-disk-1.raw") == b"first"
    elif names:
        assert await delete(world) == "OK", deadly


async def suspend(world: World, rooms: Rooms | None = None) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await hibernate.suspend_to_disk(rooms, ROOT, 100))


@pytest.mark.parametrize("again", [power.start, power.resume])
async def test_a_vm_sleeps_on_the_disk(world: World, again: Any) -> None:
    await create(world, start=True)
    await configure.update_config(world.rooms, ROOT, 100, VmOptions.parse({"cores": "2"}))
    before, volumes = await config(world), await world.volumes()
    assert await suspend(world) == "OK"
    asleep = await config(world)
    assert (asleep["lock"], world.vms.running()) == ("suspended", frozenset())
    assert str(asleep["vmstate"]).partition(":")[2] in await world.volumes() - volumes
    with pytest.raises(Locked):
        await configure.update_config(world.rooms, ROOT, 100, VmOptions.parse({"cores": "4"}))
    with pytest.raises(Locked):
        await snapshot.take_snapshot(world.rooms, ROOT, 100, "before")
    assert await end(world.rooms, await again(world.rooms, ROOT, 100)) == "OK"
    assert told(world, "start_from") == ["start_from"]
    assert await config(world) == before
    assert (await world.rooms.guests.get(100)).pending == {"cores": 2}
    assert await world.volumes() == volumes


async def test_a_sleeping_vm_can_be_destroyed(world: World) -> None:
    await create(world, start=True)
    assert await suspend(world) == "OK"
    assert await end(world.rooms, await destroy_guest(world.rooms, ROOT, 100)) == "OK"
    assert await world.volumes() == set()


@pytest.mark.parametrize("fault", ["save_memory", "allocate_disk"])
async def test_a_vm_that_cannot_sleep_runs_on(world: World, fault: str) -> None:
    await create(world, start=True)
    before, volumes = await config(world), await world.volumes()
    (world.vms.fail_next if fault == "save_memory" else world.storage.faults)[fault] = NoSpace("full")  # type: ignore[index]
    where = "storage 'local': " if fault == "save_memory" else ""
    assert await suspend(world) == f"{where}full"
    assert (await config(world), await world.volumes()) == (before, volumes)
    assert world.vms.state(100) is GuestState.RUNNING


async def test_memory_that_does_not_go_on_is_kept(world: World) -> None:
    await create(world, start=True)
    assert await suspend(world) == "OK"
    asleep = await config(world)
    world.vms.fail_next["start_from"] = HostFailure("no")
    assert await end(world.rooms, await power.start(world.rooms, ROOT, 100)) == "no"
    assert await config(world) == asleep
    assert await end(world.rooms, await power.start(world.rooms, ROOT, 100)) == "OK"


@pytest.mark.parametrize("act", ["suspend", "resume"])
async def test_a_daemon_that_dies_while_a_vm_falls_asleep_or_wakes(world: World, tmp_path: Path, act: str) -> None:
    deadly, dead = 0, True
    while dead:
        world = await World.make(tmp_path / str(deadly), world)
        await create(world, start=True, scsi0="local:0.001")
        volumes = await world.volumes()
        if act == "resume":
            assert await suspend(world) == "OK"
        life = Life(deadly)
        with contextlib.suppress(Died):
            rooms = world.daemon(life)
            await (suspend(world, rooms) if act == "suspend" else end(rooms, await power.resume(rooms, ROOT, 100)))
        dead = life.dead
        await let_go(world.rooms)
        await recover(world.rooms)
        asleep = (await config(world)).get("lock") == "suspended"
        assert asleep == (world.vms.state(100) is GuestState.STOPPED), deadly
        if asleep:
            assert await end(world.rooms, await power.start(world.rooms, ROOT, 100)) == "OK", deadly
        assert world.vms.state(100) is GuestState.RUNNING, deadly
        assert "lock" not in await config(world), deadly
        assert await world.volumes() == volumes, deadly
        assert await suspend(world) == "OK", deadly
        deadly += 1
        assert deadly < 60
    assert deadly > 10
