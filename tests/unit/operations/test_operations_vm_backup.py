"""Saving VMs over the fakes: what is saved in each mode, and what is left when it fails or is cut short."""

import asyncio
import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, Locked, NoSpace, NotSupported, WrongState
from bastide.model.access import ROOT
from bastide.model.backup import BackupMode, DiskExport
from bastide.model.guest import GuestState
from bastide.model.vm import VmOptions
from bastide.operations.backup import stopping
from bastide.operations.backup.saving import Backup, Turn
from bastide.operations.recover import let_go, recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import backup as vm_backup
from bastide.operations.vm import fleeces, power, snapshot
from bastide.operations.vm.backup import save_vm
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.template import make_template
from bastide.tasks.tasks import Task
from framework.mortal import Died, Life
from framework.rooms import fake_rooms
from framework.vm_fakes import World

pytestmark = pytest.mark.anyio

OPTIONS = {
    "name": "db", "scsi0": "local:0.001,format=qcow2", "scsi1": "local:0.001,backup=0", "virtio0": "local:0.001",
    "ide2": "none,media=cdrom", "description": "two\nlines", "efidisk0": "local:1", "bios": "ovmf",
}  # fmt: skip
SAVED = ["efidisk0", "scsi0", "virtio0"]


@dataclass
class Saved:
    """A sink that notes what it is given, and how the guest is meanwhile."""

    rooms: Rooms
    fault: BaseException | None = None
    hangs: bool = False
    disks: Sequence[DiskExport] = ()
    config: str = ""
    state: GuestState | None = None
    volumes: list[str] = field(default_factory=list)
    turns: list[tuple[Turn, GuestState]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)

    async def save_tree(self, tree: Any, config: str) -> None:
        raise AssertionError

    async def save_disks(self, disks: Sequence[DiskExport], config: str) -> None:
        self.disks, self.config = disks, config
        self.state = self.rooms.vms.state(100)
        self.volumes = [volume.volid for volume in await (await self.rooms.storages.get("local")).list("images")]
        if self.hangs:
            await asyncio.sleep(3600)
        if self.fault is not None:
            raise self.fault

    async def hook(self, turn: Turn) -> None:
        self.turns.append((turn, self.rooms.vms.state(100)))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A host with the VM 100."""
    monkeypatch.setattr(vm_backup, "_LOOK_INTERVAL", 0.02)
    world = await World.make(tmp_path)
    template = tmp_path / "vars.fd"
    template.write_bytes(b"variables".ljust(4096, b"\0"))
    world.vms.answers["efi_variables"] = template
    await _create(world.rooms, **OPTIONS)
    return world


async def _create(rooms: Rooms, **options: object) -> None:
    made = await create_vm(rooms, ROOT, 100, VmOptions.parse(options))
    assert (await rooms.tasks.wait(made)).exitstatus == "OK"


async def _start(rooms: Rooms) -> None:
    assert (await rooms.tasks.wait(await power.start(rooms, ROOT, 100))).exitstatus == "OK"


async def _save(rooms: Rooms, saved: Saved, mode: BackupMode = "snapshot", **more: Any) -> list[str]:
    """Run it as a task; its log. Raises what it raised."""
    failure: list[BaseException] = []

    async def work(task: Task) -> None:
        async with rooms.locks.hold(100, task.upid, "backup") as held:
            try:
                guest = await rooms.guests.get(100)
                await save_vm(rooms, Backup(guest, mode, saved, held, task, hook=saved.hook, **more))
            except BaseException as error:
                failure.append(error)
                raise

    upid = await rooms.tasks.start("vzdump", "100", ROOT, work)
    await rooms.tasks.wait(upid)
    if failure:
        raise failure[0]
    return [line.t for line in (await rooms.tasks.log(upid, limit=1000))[0]]


async def _clean(world: World, state: GuestState = GuestState.RUNNING) -> None:
    """Nothing is left of a backup, and the guest is as it was."""
    assert world.rooms.vms.state(100) is state
    for prefix in ("backup-stop/", "standing/", "frozen/"):
        assert await world.rooms.store.list(prefix) == []
    if state is not GuestState.STOPPED:
        assert world.vms.guests[100].held is None
    assert not [name for name in await world.volumes() if "fleece" in name]
    assert not list(world.rooms.layout.state.glob("tmp*"))


async def test_a_running_vm_is_saved_as_it_is_at_one_moment(world: World) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms)
    log = await _save(world.rooms, saved)
    assert sorted(disk.key for disk in saved.disks) == SAVED
    assert saved.state is GuestState.RUNNING
    assert [line for line in log if re.fullmatch(r"guest was frozen for \d+ ms", line)]
    assert len([line for line in log if line.startswith("exclude disk 'scsi1' ")]) == 1
    lines = saved.config.splitlines()
    assert lines[:2] == ["#two", "#lines"]
    assert "#qmdump#map:scsi0:drive-scsi0:local:qcow2:" in lines
    assert "#qmdump#map:virtio0:drive-virtio0:local:raw:" in lines
    assert not [line for line in lines if line.startswith("#qmdump#map:scsi1")]
    assert [line for line in lines if line.startswith("scsi1: ")]
    await _clean(world)


async def test_the_agent_stills_the_file_systems_for_the_moment_alone(world: World) -> None:
    answers: list[str] = []
    world.vms.answers |= {
        "guest-ping": {},
        "guest-fsfreeze-freeze": lambda _: answers.append("freeze") or 2,
        "guest-fsfreeze-thaw": lambda _: answers.append("thaw") or 2,
    }
    guest = await world.rooms.guests.get(100)
    await world.rooms.guests.update(guest.with_config({**guest.config, "agent": "1"}))
    await _start(world.rooms)
    await _save(world.rooms, Saved(world.rooms))
    told = [one[0] for one in world.vms.told if one[0] in ("moment", "end_backup")]
    assert (answers, told) == (["freeze", "thaw"], ["end_backup", "moment", "end_backup"])
    await _clean(world)


async def test_suspend_keeps_the_guest_paused_and_stop_starts_it_at_once(world: World) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms)
    await _save(world.rooms, saved, "suspend")
    assert saved.state is GuestState.PAUSED
    assert saved.turns == [
        ("pre-stop", GuestState.RUNNING), ("pre-restart", GuestState.PAUSED), ("post-restart", GuestState.RUNNING),
    ]  # fmt: skip
    await _clean(world)
    saved = Saved(world.rooms)
    log = await _save(world.rooms, saved, "stop")
    assert saved.state is GuestState.RUNNING
    assert saved.turns == [
        ("pre-stop", GuestState.RUNNING), ("pre-restart", GuestState.STOPPED), ("post-restart", GuestState.RUNNING),
    ]  # fmt: skip
    assert ("moment", 100, "prelaunch") in world.vms.told
    assert not [line for line in log if "frozen" in line]
    await _clean(world)


async def test_a_paused_vm_stays_paused(world: World) -> None:
    await _start(world.rooms)
    for mode in ("snapshot", "suspend", "stop"):
        await world.vms.pause(100)
        saved = Saved(world.rooms)
        await _save(world.rooms, saved, mode)
        assert saved.state is GuestState.PAUSED
        await _clean(world, GuestState.PAUSED)


_FAILING = ("sink", "begin_backup", "still", "backup_failed", "gone", "cancelled")


@pytest.mark.parametrize(
    ("mode", "failing"),
    [
        *itertools.product(("snapshot", "suspend", "stop"), _FAILING),
        ("stop", "shutdown"),
        ("stop", "start"),
    ],
)
async def test_whatever_fails_the_guest_runs_and_nothing_is_left(world: World, mode: BackupMode, failing: str) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms)
    expected: type[BaseException] = HostFailure
    if failing == "sink":
        saved.fault, expected = NoSpace("full"), NoSpace
    elif failing == "backup_failed":
        saved.hangs = True
        world.vms.answers["backup_failed"] = "the fleece is full"
    elif failing in ("gone", "cancelled"):
        saved.hangs = True
    else:
        world.vms.fail_next[failing] = HostFailure("no")
        expected = DeadlineExceeded if failing == "shutdown" else HostFailure
    running = asyncio.ensure_future(_save(world.rooms, saved, mode, fleecing="local"))
    if failing in ("gone", "cancelled"):
        async with asyncio.timeout(5):
            while not saved.disks:
                await asyncio.sleep(0.01)
        if failing == "gone":
            await world.vms.stop(100)
        else:
            (record,) = await world.rooms.tasks.list(typefilter="vzdump", source="active")
            await world.rooms.tasks.stop(record.upid)
            expected = asyncio.CancelledError
    with pytest.raises(expected) as caught:
        await running
    if failing == "backup_failed":
        assert str(caught.value) == "the fleece is full"
    await _clean(world, GuestState.STOPPED if failing == "gone" else GuestState.RUNNING)
    world.vms.answers.pop("backup_failed", None)
    if failing != "gone":
        await _save(world.rooms, Saved(world.rooms), mode)


async def test_a_state_that_is_lost_at_the_end_is_no_backup(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_backup, "_LOOK_INTERVAL", 60.0)
    await _start(world.rooms)
    world.vms.answers["backup_failed"] = "the fleece is full"
    for fault in (None, HostFailure("read error")):
        with pytest.raises(HostFailure, match="the fleece is full"):
            await _save(world.rooms, Saved(world.rooms, fault))
        await _clean(world)


async def test_fleeces_on_a_storage_are_volumes_that_go(world: World) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms)
    await _save(world.rooms, saved, fleecing="local")
    assert len([volid for volid in saved.volumes if "fleece" in volid]) == len(SAVED)
    await _clean(world)


async def test_fleeces_leave_room_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms, hangs=True)
    held = fleeces.Fleeces({"scsi0": os.open(world.rooms.layout.state, os.O_TMPFILE | os.O_RDWR)})
    monkeypatch.setattr(fleeces, "GIB", 1 << 60)
    figures = os.statvfs(world.rooms.layout.state)
    monkeypatch.setattr(os, "fstatvfs", lambda _: _Full(figures))
    held.check()
    os.pwrite(held.files["scsi0"], b"x", 0)
    with pytest.raises(NoSpace, match="scsi0"):
        held.check()
    os.close(held.files["scsi0"])
    monkeypatch.setattr(fleeces.Fleeces, "check", lambda _self: (_ for _ in ()).throw(NoSpace("little room")))
    with pytest.raises(NoSpace):
        await _save(world.rooms, saved)
    await _clean(world)


class _Full:
    def __init__(self, figures: os.statvfs_result) -> None:
        self.f_blocks, self.f_frsize, self.f_bavail = figures.f_blocks, figures.f_frsize, 1


async def test_others_wait_for_the_backup_or_are_refused(world: World) -> None:
    await _start(world.rooms)
    saved = Saved(world.rooms, hangs=True)
    running = asyncio.ensure_future(_save(world.rooms, saved))
    async with asyncio.timeout(5):
        while not saved.disks:
            await asyncio.sleep(0.01)
    owner = await world.rooms.locks.get(100)
    assert owner is not None
    with pytest.raises(Locked):
        async with world.rooms.locks.hold(100, "other", "move", 0.05):
            pass
    taken = asyncio.ensure_future(snapshot.take_snapshot(world.rooms, ROOT, 100, "one"))
    await asyncio.sleep(0.1)
    assert not (await world.rooms.guests.get(100)).snapshots
    (record,) = await world.rooms.tasks.list(typefilter="vzdump", source="active")
    await world.rooms.tasks.stop(record.upid)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await world.rooms.tasks.wait(await taken)).exitstatus == "OK"


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
async def test_the_next_daemon_releases_the_guest_wherever_this_one_died(
    world: World, tmp_path: Path, mode: BackupMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change that a backup makes to the store, the storage or the VM is the last one once."""
    monkeypatch.setattr(stopping, "_GOING_DOWN", 0.01)
    for step in range(1, 200):
        (tmp_path / str(step)).mkdir()
        fresh = await World.make(tmp_path / str(step), like=world)
        fresh.vms.answers = dict(world.vms.answers)
        await _create(fresh.rooms, **OPTIONS)
        await _start(fresh.rooms)
        life = Life(step)
        rooms = fresh.daemon(life)
        died = False
        try:
            guest = await fresh.rooms.guests.get(100)
            async with rooms.locks.hold(100, "dead", "backup") as held:
                task: Any = _Quiet()
                await save_vm(rooms, Backup(guest, mode, Saved(rooms), held, task, fleecing="local"))
        except (Died, BastideError, ExceptionGroup):
            died = True
        await let_go(fresh.rooms)
        await recover(fresh.rooms)
        await stopping.finish(fresh.rooms)
        await _clean(fresh)
        assert await fresh.rooms.locks.list() == []
        assert await _save(fresh.rooms, Saved(fresh.rooms), mode)
        if not died:
            break
    assert step > 10


class _Quiet:
    upid = "UPID:dead"

    def log(self, line: str) -> None:
        pass

    def warn(self, line: str) -> None:
        pass


async def test_what_the_guest_commands_itself_cannot_be_held(world: World) -> None:
    await _start(world.rooms)
    guest = await world.rooms.guests.get(100)
    for tail, refused in (("", True), (",backup=0", False)):
        text = f"/dev/sdz,scsiblock=1{tail}"
        guest = await world.rooms.guests.update(guest.with_config({**guest.config, "scsi5": text}))
        if refused:
            with pytest.raises(NotSupported, match="scsi5"):
                await _save(world.rooms, Saved(world.rooms))
        else:
            await _save(world.rooms, Saved(world.rooms))
        await _clean(world)


async def test_a_vm_without_disks_is_not_saved(world: World) -> None:
    await _create_without(world.rooms)
    with pytest.raises(WrongState, match="no disk"):
        await _save(world.rooms, Saved(world.rooms))


async def _create_without(rooms: Rooms) -> None:
    guest = await rooms.guests.get(100)
    await rooms.guests.update(guest.with_config({"name": "db", "ide2": "none,media=cdrom"}))


class Reading(Saved):
    """Reads what it is given."""

    async def save_disks(self, disks: Sequence[DiskExport], config: str) -> None:
        await super().save_disks(disks, config)
        for disk in disks:
            target = self.rooms.layout.state / "read"
            source = f"nbd+unix:///{disk.export}?socket={disk.socket}"
            argv = ["qemu-img", "convert", "-f", "raw", "-O", "raw", source, str(target)]
            await asyncio.to_thread(subprocess.run, argv, check=True)
            self.contents[disk.key] = target.read_bytes()
            assert len(self.contents[disk.key]) == disk.size


@pytest.mark.system
async def test_a_stopped_vm_and_a_template_are_saved_from_their_files(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    await rooms.storages.update("local", {"content": "images,rootdir,vztmpl"})
    await _create(
        rooms, name="db", scsi0="local:0.01,format=qcow2", virtio0="local:0.01,format=raw", tpmstate0="local:1"
    )
    folder = rooms.layout.local_storage / "images/100"
    (qcow2,), raw = folder.glob("*.qcow2"), sorted(folder.glob("*.raw"))
    argv = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", str(qcow2)]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    for path in raw:
        with path.open("r+b") as file:
            file.write(path.name.encode())
    for mode in ("snapshot", "stop"):
        saved = Reading(rooms)
        await _save(rooms, saved, mode)
        assert sorted(saved.contents) == ["scsi0", "tpmstate0", "virtio0"]
        assert saved.contents["scsi0"][: 1 << 16] == b"\7" * (1 << 16)
        assert {content[:17] for key, content in saved.contents.items() if key != "scsi0"} == {
            path.name.encode()[:17] for path in raw
        }
        assert saved.turns == []
        assert not list(rooms.layout.runtime.glob("nbd-*"))
    assert (await rooms.tasks.wait(await make_template(rooms, ROOT, 100))).exitstatus == "OK"
    saved = Reading(rooms)
    await _save(rooms, saved)
    assert saved.contents["scsi0"][: 1 << 16] == b"\7" * (1 << 16)
    assert "template: 1" in saved.config
