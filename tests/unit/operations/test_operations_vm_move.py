"""Disks of running VMs move, and whatever fails or dies meanwhile leaves one image, the one that the guest uses."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from bastide.base.errors import BastideError, Conflict, HostFailure, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.guest.vm_protocol import Mirror
from bastide.model.access import ROOT
from bastide.model.vm import VmOptions
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.move import Move, move_disk, token
from bastide.operations.volumes import owned_volumes
from framework.mortal import Died, Life
from framework.rooms import fake_rooms
from framework.vm_fakes import World

pytestmark = pytest.mark.anyio
OLD, TPM = "local:100/vm-100-disk-0.raw", "local:100/vm-100-disk-1.raw"
HALF = Mirror(512 << 20, 1 << 30, ready=False)


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path)
    await rooms.storages.update("local", {"format": "raw"})
    rooms = replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))
    options = VmOptions.parse({"scsi0": "local:1,mbps=20", "ide2": "none,media=cdrom", "tpmstate0": "local:1"})
    assert await end(rooms, await create_vm(rooms, ROOT, 100, options, start=True)) == "OK"
    return rooms


def engine(rooms: Rooms) -> FakeVmEngine:
    return cast(FakeVmEngine, rooms.vms)


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def config(rooms: Rooms) -> dict[str, Any]:
    found = dict((await rooms.guests.get(100)).config)
    return {key: str(value).partition(",")[0] for key, value in found.items() if key.startswith(("scsi0", "unused"))}


async def volumes(rooms: Rooms) -> set[str]:
    return {volume.volid for volume in await (await rooms.storages.get("local")).list("images", 100)} - {TPM}


async def new(rooms: Rooms) -> str:
    return next(iter(await volumes(rooms) - {OLD}), "")


async def quiet(rooms: Rooms) -> None:
    """No lock is held, no copy is under way."""
    assert await rooms.locks.list() == []
    assert engine(rooms).guests[100].mirrors == {}


@pytest.mark.parametrize("delete", [False, True])
async def test_a_running_vms_disk_moves(rooms: Rooms, *, delete: bool) -> None:
    move = Move("scsi0", form="qcow2", delete=delete, limit=1024)
    assert await end(rooms, await move_disk(rooms, ROOT, 100, move)) == "OK"
    made = await new(rooms)
    assert made.endswith(".qcow2")
    assert await config(rooms) == {"scsi0": made} | ({} if delete else {"unused0": OLD})
    options = str((await rooms.guests.get(100)).config["scsi0"]).split(",")
    assert {"mbps=20.0", "size=1G"} <= set(options)
    assert await volumes(rooms) == ({made} if delete else {made, OLD})
    told = [one for one in engine(rooms).told if one[0] in ("mirror", "change_over")]
    assert told == [("mirror", 100, "scsi0", token(VolumeId.parse(made)), 1024 * 1024), ("change_over", 100, "scsi0")]
    await quiet(rooms)
    again = await move_disk(rooms, ROOT, 100, Move("scsi0", form="raw", delete=True))
    assert await end(rooms, again) == "OK"
    await quiet(rooms)


@pytest.mark.parametrize("step", ["mirror", "mirror_progress", "change_over"])
async def test_a_failure_leaves_the_guest_its_disk(rooms: Rooms, step: str) -> None:
    engine(rooms).fail_next[step] = HostFailure("it broke")
    assert "it broke" in await end(rooms, await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2", delete=True)))
    assert await config(rooms) == {"scsi0": OLD}
    assert await volumes(rooms) == {OLD}
    await quiet(rooms)


async def test_stopping_the_task_stops_the_copy(rooms: Rooms) -> None:
    engine(rooms).answers["mirror"] = HALF
    upid = await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2"))
    await until(lambda: bool(engine(rooms).guests[100].mirrors))
    await rooms.tasks.stop(upid)
    assert await end(rooms, upid) == "received interrupt"
    assert (await config(rooms), await volumes(rooms)) == ({"scsi0": OLD}, {OLD})
    await quiet(rooms)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_a_guest_that_ends_meanwhile_keeps_its_disk(rooms: Rooms) -> None:
    engine(rooms).answers["mirror"] = HALF
    upid = await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2"))
    await until(lambda: bool(engine(rooms).guests[100].mirrors))
    await engine(rooms).stop(100)
    assert "not running" in await end(rooms, upid)
    assert (await config(rooms), await volumes(rooms)) == ({"scsi0": OLD}, {OLD})


async def test_a_change_over_that_fails_late_counts(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    change_over = engine(rooms).change_over

    async def late(vmid: int, key: str) -> None:
        await change_over(vmid, key)
        raise HostFailure("too late")

    monkeypatch.setattr(engine(rooms), "change_over", late)
    move = await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2", delete=True))
    assert await end(rooms, move) == "WARNINGS: 1"
    made = await new(rooms)
    assert (await config(rooms), await volumes(rooms)) == ({"scsi0": made}, {made})


async def test_when_qemu_does_not_say_nothing_is_lost(rooms: Rooms) -> None:
    engine(rooms).fail_next |= {"change_over": HostFailure("it hangs"), "image_token": HostFailure("it hangs")}
    move = await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2", delete=True))
    assert "it hangs" in await end(rooms, move)
    made = await new(rooms)
    assert await config(rooms) == {"scsi0": OLD, "unused0": made}
    assert await volumes(rooms) == {OLD, made}


STEPS = ["allocate", "mirror", "mirror_progress", "change_over", "changed", "recorded"]


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("step", STEPS)
async def test_a_daemon_that_dies_leaves_the_image_that_is_used(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, step: str, *, delete: bool
) -> None:
    """Nothing that would undo gets to run: what the next daemon finds is all there is."""
    died: asyncio.Event = asyncio.Event()

    async def die(*_arguments: Any, **_options: Any) -> None:
        died.set()
        await asyncio.Event().wait()

    if step == "allocate":
        storage: Any = await rooms.storages.get("local")
        monkeypatch.setattr(storage, "allocate_disk", die)
    elif step == "changed":
        change_over = engine(rooms).change_over

        async def changed(vmid: int, key: str) -> None:
            await change_over(vmid, key)
            await die()

        monkeypatch.setattr(engine(rooms), "change_over", changed)
    elif step == "recorded":
        monkeypatch.setattr("bastide.operations.vm.move._drop_old", die)
    else:
        monkeypatch.setattr(engine(rooms), step, die)
    await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2", delete=delete))
    await asyncio.wait_for(died.wait(), 5)
    monkeypatch.undo()
    # What is left of the task does not wake up again; the record, the lock and QEMU are as they are.
    await recover(rooms)
    made = await new(rooms)
    if step in ("changed", "recorded"):
        unused = {} if delete else {"unused0": OLD}
        assert await config(rooms) == {"scsi0": made, **unused}
        assert await volumes(rooms) == ({made} if delete else {made, OLD})
    else:
        assert await config(rooms) == {"scsi0": OLD}
        assert await volumes(rooms) == {OLD}
    await quiet(rooms)
    assert await end(rooms, await move_disk(rooms, ROOT, 100, Move("scsi0", form="vmdk", delete=True))) == "OK"


@pytest.mark.parametrize(
    "move",
    [
        Move("scsi0", form="qcow2"),
        Move("scsi0", form="qcow2", delete=True),
        Move("scsi0", target_vmid=101, target_key="scsi1"),
    ],
    ids=["keep", "delete", "give"],
)
async def test_a_daemon_that_dies_while_a_stopped_vms_disk_moves(tmp_path: Path, move: Move) -> None:
    deadly, dead, world = 0, True, None
    while dead:
        world = await World.make(tmp_path / str(deadly), world)
        for vmid in (100, 101):
            options = VmOptions.parse({"scsi0": "local:0.001"})
            assert await end(world.rooms, await create_vm(world.rooms, ROOT, vmid, options)) == "OK"
        life = Life(deadly)
        with contextlib.suppress(Died):
            rooms = world.daemon(life)
            await end(rooms, await move_disk(rooms, ROOT, 100, move))
        dead = life.dead
        await recover(world.rooms)
        assert await world.rooms.locks.list() == [], deadly
        found = {guest.vmid: owned_volumes(guest.config, guest.vmid) for guest in await world.rooms.guests.list()}
        there = sorted(f"local:{name}" for name in await world.volumes())
        assert sorted(volid for volumes in found.values() for volid in volumes.values()) == there, deadly
        moved = ("scsi1" in found[101]) if move.target_vmid else found[100]["scsi0"].endswith("qcow2")
        assert len(there) == (3 if moved and move.form and not move.delete else 2), deadly
        assert ("scsi0" in found[100]) == (not moved or not move.target_vmid), deadly
        if not moved:
            assert await end(world.rooms, await move_disk(world.rooms, ROOT, 100, move)) == "OK", deadly
        deadly += 1
        assert deadly < 60
    assert deadly > 10


@pytest.mark.parametrize(
    ("move", "error"),
    [
        (Move("scsi0"), InvalidParameter),
        (Move("scsi9", form="raw"), InvalidParameter),
        (Move("ide2", form="raw"), InvalidParameter),
        (Move("tpmstate0", storage="local"), WrongState),
        (Move("scsi0", form="raw", digest="0" * 40), Conflict),
        (Move("scsi0", target_vmid=101, target_key="scsi1"), WrongState),
    ],
)
async def test_what_cannot_move_is_refused_at_once(rooms: Rooms, move: Move, error: type[BastideError]) -> None:
    assert await end(rooms, await create_vm(rooms, ROOT, 101, VmOptions.parse({"scsi0": "local:1"}))) == "OK"
    with pytest.raises(error):
        await move_disk(rooms, ROOT, 100, move)


async def test_unused_disks_and_tpm_states_move_while_stopped(rooms: Rooms) -> None:
    assert await end(rooms, await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2"))) == "OK"
    assert await end(rooms, await move_disk(rooms, ROOT, 100, Move("unused0", form="qcow2", delete=True))) == "OK"
    assert str((await config(rooms))["unused0"]).endswith(".qcow2")
    assert await end(rooms, await power.stop(rooms, ROOT, 100)) == "OK"
    before = (await rooms.guests.get(100)).config["tpmstate0"]
    assert await end(rooms, await move_disk(rooms, ROOT, 100, Move("tpmstate0", storage="local", delete=True))) == "OK"
    assert (await rooms.guests.get(100)).config["tpmstate0"] != before
