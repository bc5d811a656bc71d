"""What every VM engine must do, the fake and QEMU alike."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, WrongState
from bastide.base.layout import Layout
from bastide.guest.fake_vm import FakeVmEngine
from bastide.guest.qemu.engine import QemuEngine
from bastide.guest.vm_protocol import ImageFormat, PlannedDisk, VmEngine, VmPlan
from bastide.model.guest import GuestState
from bastide.model.vm import VmConfig
from framework.vms import plan_vm, traces

VMID = 4711
SIZE = 8 << 20
pytestmark = pytest.mark.timeout(180)


@dataclass
class Subject:
    """An engine and a VM that it can start."""

    engine: VmEngine
    plan: VmPlan
    events: list[tuple[int, str]] = field(default_factory=list)

    async def listen(self, vmid: int, event: str, _data: Mapping[str, Any]) -> None:
        self.events.append((vmid, event))


Story = Callable[[Subject], Awaitable[None]]
OPTIONS = {"serial0": "socket", "ide2": "none,media=cdrom", "agent": "1"}


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.system)])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a story with each engine; afterwards nothing of it may be left."""
    layout = Layout(tmp_path / "host")

    async def whole(story: Story) -> None:
        engine: Any = FakeVmEngine() if request.param == "fake" else QemuEngine(layout)
        await engine.prepare()
        subject = Subject(engine, plan_vm(engine, VMID, OPTIONS))
        engine.on_event(subject.listen)
        try:
            await story(subject)
        finally:
            await engine.stop(VMID)
            await engine.cleanup(VMID)
            await engine.purge()
            await engine.close()

    (tmp_path / "host").mkdir(mode=0o700)
    yield lambda story: asyncio.run(whole(story))
    assert traces(layout) == []


def test_a_vm_is_stopped_until_it_is_started(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        assert (engine.state(VMID), engine.running(), engine.ended()) == (GuestState.STOPPED, frozenset(), frozenset())
        assert engine.init_pid(VMID) is engine.started_at(VMID) is engine.usage(VMID) is None
        assert await engine.status(VMID) is engine.known_status(VMID) is None
        assert (list(await engine.addresses(VMID)), engine.traffic(VMID)) == ([], (0, 0))
        assert not await engine.cleanup(VMID)
        async with asyncio.timeout(10):
            await engine.wait_stopped(VMID)
        await engine.stop(VMID)

        await engine.start(given.plan)
        assert (engine.state(VMID), engine.running()) == (GuestState.RUNNING, frozenset({VMID}))
        status = await engine.status(VMID)
        assert status is not None
        assert (status.state, status.machine, status.vcpus, status.balloon) == (
            "running", given.plan.machine, 1, 32 << 20,
        )  # fmt: skip
        assert engine.init_pid(VMID) is not None
        assert engine.started_at(VMID) is not None
        usage = engine.usage(VMID)
        assert usage is not None
        assert usage.processes >= 1
        with pytest.raises(WrongState):
            await engine.start(given.plan)

    tell(story)


def test_nothing_can_be_asked_of_a_stopped_vm(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine, plan = given.engine, given.plan
        asked: list[Awaitable[object]] = [
            engine.pause(VMID), engine.resume(VMID), engine.reset(VMID), engine.wake(VMID), engine.serial(VMID, 0),
            engine.vnc(VMID), engine.screenshot(VMID), engine.send_keys(VMID, ["a"]), engine.monitor(VMID, "info"),
            engine.set_link(VMID, 0, up=True), engine.set_vcpus(VMID, 1), engine.set_memory(VMID, 64),
            engine.set_balloon(VMID, 16), engine.set_limits(VMID, plan.config), engine.remove_disk(VMID, "scsi0"),
            engine.resize_disk(VMID, "scsi0", 1 << 20), engine.change_medium(plan, "ide2"),
            engine.ask(VMID, "guest-ping", deadline=1), engine.snapshot_disks(VMID, "one", ["scsi0"]),
            engine.delete_disk_snapshot(VMID, "one", "scsi0"), engine.save_memory(VMID, 0),
            engine.mirror(plan, "ide2", plan.disks[0], "t1"), engine.mirror_progress(VMID, "scsi0"),
            engine.change_over(VMID, "scsi0"), engine.cancel_mirror(VMID, "scsi0"), engine.image_token(VMID, "scsi0"),
            engine.begin_backup(VMID, {}),
        ]  # fmt: skip
        for one in asked:
            with pytest.raises(WrongState):
                await one
        assert not await engine.agent_answers(VMID)
        assert await engine.backup_failed(VMID) is not None
        await engine.end_backup(VMID)

    tell(story)


def test_whoever_waits_learns_of_the_end(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        await engine.start(given.plan)
        waiting = [asyncio.ensure_future(engine.wait_stopped(VMID)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        await engine.stop(VMID)
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
        assert (engine.state(VMID), engine.running(), engine.ended()) == (
            GuestState.STOPPED, frozenset(), frozenset({VMID}),
        )  # fmt: skip
        await asyncio.sleep(0.05)
        assert (VMID, "GONE") in given.events
        assert await engine.cleanup(VMID)
        assert engine.ended() == frozenset()
        await engine.start(given.plan)

    tell(story)


def test_a_paused_vm_counts_as_running(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        await engine.start(given.plan, paused=True)
        assert (engine.state(VMID), engine.running()) == (GuestState.PAUSED, frozenset({VMID}))
        await engine.resume(VMID)
        assert engine.state(VMID) is GuestState.RUNNING
        await engine.pause(VMID)
        assert engine.state(VMID) is GuestState.PAUSED
        known = engine.known_status(VMID)
        assert known is not None
        assert known.state == "paused"
        await engine.reset(VMID)
        await engine.stop(VMID)
        assert engine.state(VMID) is GuestState.STOPPED

    tell(story)


def test_consoles_open(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        await engine.start(given.plan)
        screen = await engine.vnc(VMID)
        os.set_blocking(screen, True)
        assert (await asyncio.to_thread(os.read, screen, 12)).startswith(b"RFB 003.")
        os.close(screen)
        os.close(await engine.serial(VMID, 0))
        with pytest.raises(WrongState):
            await engine.serial(VMID, 1)
        assert (await engine.screenshot(VMID)).startswith(b"\x89PNG")
        await engine.send_keys(VMID, ["ctrl", "alt", "delete"])
        assert await engine.monitor(VMID, "info version")

    tell(story)


def test_a_guest_without_an_agent_says_so(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        await given.engine.start(given.plan)
        with pytest.raises(WrongState, match="agent is not running"):
            await given.engine.ask(VMID, "guest-ping", deadline=5)
        assert not await given.engine.agent_answers(VMID)
        assert list(await given.engine.addresses(VMID)) == []

    tell(story)


def test_choices_depend_on_the_options(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        kind, why = engine.accelerator
        assert (kind == "kvm") == (why is None)
        assert engine.pin_machine(VmConfig.parse({"machine": "q35"})).startswith("pc-q35-")
        assert engine.pin_machine(VmConfig.parse({})).startswith("pc-i440fx-")
        first = engine.choose_uid(VMID, [])
        assert first > 65535
        assert engine.choose_uid(VMID, [first]) != first
        engine.check(given.plan.config)
        if isinstance(engine, QemuEngine):
            for options in ({"machine": "pc-q35-99.0"}, {"arch": "aarch64"}):
                with pytest.raises(InvalidParameter):
                    engine.check(VmConfig.parse(options))

    tell(story)


def disks(given: Subject, folder: Path, **forms: ImageFormat) -> tuple[VmPlan, dict[str, PlannedDisk]]:
    """The VM with two qcow2 disks, and a further image of the same size for each format in `forms`."""
    files = {key: image(folder / f"{key}.qcow2", "qcow2") for key in ("scsi0", "virtio1")}
    options = {"scsi0": "local:a", "virtio1": "local:b", "scsihw": "virtio-scsi-pci"}
    plan = plan_vm(given.engine, VMID, options, files, formats=dict.fromkeys(files, "qcow2"))
    drive = plan.disks[0].options
    copies = {
        name: PlannedDisk("scsi0", drive, image(folder / f"{name}.copy", form), form, SIZE)
        for name, form in forms.items()
    }
    return plan, copies


def image(path: Path, form: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", form, str(path), str(SIZE)], check=True)
    return path


async def in_step(engine: VmEngine, key: str) -> None:
    async with asyncio.timeout(30):
        while True:
            mirror = await engine.mirror_progress(VMID, key)
            assert mirror is not None
            if mirror.ready:
                return
            await asyncio.sleep(0.02)


def test_a_drive_changes_over_to_its_copy(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        plan, copies = disks(given, tmp_path, first="raw", second="qcow2")
        await engine.start(plan, paused=True)
        assert await engine.mirror_progress(VMID, "scsi0") is None
        with pytest.raises(HostFailure):
            await engine.change_over(VMID, "scsi0")
        await engine.mirror(plan, "scsi0", copies["first"], "first", speed=1 << 30)
        with pytest.raises(HostFailure):
            await engine.mirror(plan, "scsi0", copies["second"], "second")
        await in_step(engine, "scsi0")
        assert await engine.image_token(VMID, "scsi0") is None
        await engine.change_over(VMID, "scsi0")
        assert await engine.image_token(VMID, "scsi0") == "first"
        assert await engine.image_token(VMID, "virtio1") is None
        assert await engine.mirror_progress(VMID, "scsi0") is None
        await engine.resize_disk(VMID, "scsi0", 2 * SIZE)
        await engine.change_disk_limits(plan, "scsi0")

    tell(story)


def test_a_copy_that_is_given_up_leaves_the_drive_as_it_was(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        plan, copies = disks(given, tmp_path, first="qcow2", second="raw")
        await engine.start(plan, paused=True)
        await engine.cancel_mirror(VMID, "scsi0")
        for name in ("first", "second", "first"):
            await engine.mirror(plan, "scsi0", copies[name], name)
            await in_step(engine, "scsi0")
            await engine.cancel_mirror(VMID, "scsi0")
            await engine.cancel_mirror(VMID, "scsi0")
            assert await engine.mirror_progress(VMID, "scsi0") is None
            assert await engine.image_token(VMID, "scsi0") is None

    tell(story)


def test_disks_are_held_for_one_backup_at_a_time(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine, states = given.engine, []
        plan, _ = disks(given, tmp_path)
        await engine.start(plan, paused=True)

        @contextlib.asynccontextmanager
        async def still() -> AsyncIterator[None]:
            states.append(engine.state(VMID))
            yield

        @contextlib.asynccontextmanager
        async def failing() -> AsyncIterator[None]:
            raise InvalidParameter({"vmid": "no"})
            yield

        with open_file(tmp_path / "a") as first, open_file(tmp_path / "b") as second:
            await engine.end_backup(VMID)
            with pytest.raises(WrongState):
                await engine.begin_backup(VMID, {"scsi0": first, "sata5": second})
            with pytest.raises(InvalidParameter):
                await engine.begin_backup(VMID, {"scsi0": first}, still=failing)
            found = await engine.begin_backup(VMID, {"scsi0": first, "virtio1": second}, still=still)
            assert {key: disk.key for key, disk in found.items()} == {"scsi0": "scsi0", "virtio1": "virtio1"}
            # The fake knows the plan alone, which has the file's size.
            assert isinstance(engine, FakeVmEngine) or {disk.size for disk in found.values()} == {SIZE}
            assert states == [GuestState.PAUSED]
            assert engine.state(VMID) is GuestState.PAUSED
            assert await engine.backup_failed(VMID) is None
            with pytest.raises(WrongState):
                await engine.begin_backup(VMID, {"scsi0": first})
            await engine.end_backup(VMID)
            assert await engine.backup_failed(VMID) is not None
            await engine.begin_backup(VMID, {"virtio1": second}, resume=True)
            assert engine.state(VMID) is GuestState.RUNNING
            await engine.end_backup(VMID)
            await engine.begin_backup(VMID, {}, still=still)
            assert await engine.backup_failed(VMID) is None
            await engine.end_backup(VMID)
            assert engine.state(VMID) is GuestState.RUNNING

    tell(story)


def test_disks_are_snapshotted_all_or_none(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        plan, _ = disks(given, tmp_path)
        await engine.start(plan, paused=True)
        await engine.snapshot_disks(VMID, "one", ["virtio1"])
        with pytest.raises(HostFailure):
            await engine.snapshot_disks(VMID, "one", ["scsi0", "virtio1"])
        await engine.delete_disk_snapshot(VMID, "one", "virtio1")
        # Had the one that failed left anything, this would fail too.
        await engine.snapshot_disks(VMID, "one", ["scsi0", "virtio1"])
        for _ in range(2):
            await engine.delete_disk_snapshot(VMID, "one", "scsi0")
        await engine.snapshot_disks(VMID, "one", ["scsi0"])

    tell(story)


def test_memory_goes_to_a_file_and_comes_back(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine, states = given.engine, []
        plan, _ = disks(given, tmp_path)
        await engine.start(plan)

        async def at_rest() -> None:
            states.append(engine.state(VMID))
            await engine.snapshot_disks(VMID, "one", ["scsi0", "virtio1"])

        with open_file(tmp_path / "memory") as memory:
            await engine.save_memory(VMID, memory, at_rest)
            assert (states, engine.state(VMID)) == ([GuestState.PAUSED], GuestState.PAUSED)
            with pytest.raises(WrongState):
                await engine.snapshot_disks(VMID, "two", ["scsi0"])
            await engine.resume(VMID)
            assert engine.state(VMID) is GuestState.RUNNING
            await engine.snapshot_disks(VMID, "two", ["scsi0"])
            await engine.stop(VMID)
            await engine.cleanup(VMID)
            os.lseek(memory, 0, os.SEEK_SET)
            await engine.start_from(plan, memory)
            assert engine.state(VMID) is GuestState.RUNNING

    tell(story)


def test_memory_that_cannot_be_kept_or_read_changes_nothing(tell: Callable[[Story], None], tmp_path: Path) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        plan, _ = disks(given, tmp_path)
        await engine.start(plan)

        async def at_rest() -> None:
            raise InvalidParameter({"snapname": "no"})

        with open_file(tmp_path / "memory") as memory:
            with pytest.raises(InvalidParameter):
                await engine.save_memory(VMID, memory, at_rest)
            assert engine.state(VMID) is GuestState.RUNNING
            await engine.stop(VMID)
            await engine.cleanup(VMID)
            os.truncate(memory, 0)
            os.pwrite(memory, b"noise" * 1000, 0)
            os.lseek(memory, 0, os.SEEK_SET)
            with pytest.raises(HostFailure):
                await engine.start_from(plan, memory)
            assert engine.running() == engine.ended() == frozenset()

    tell(story)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
