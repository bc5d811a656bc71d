"""Snapshots, clones and suspending of real VMs: a boot sector that keeps one byte in memory and one on its disk."""

import asyncio
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.ids import Upid
from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.qemu import migration
from bastide.model.access import ROOT
from bastide.model.guest import GuestState
from bastide.model.vm import VmOptions
from bastide.operations.recover import let_go, recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import hibernate, power, snapshot
from bastide.operations.vm.clone import Clone, clone_vm
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.template import make_template
from framework.rooms import fake_rooms
from framework.vm_bench import VMID, Bench, Story, telling
from framework.vms import state_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

COPY = VMID + 1


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a test's story with a bench; afterwards nothing of it may be left."""
    with telling(tmp_path) as tell:
        yield tell


async def rooms_of(bench: Bench) -> Rooms:
    """The rooms of a daemon whose VMs are real, in the bench's folder."""
    rooms = await fake_rooms(bench.layout.root)
    return replace(rooms, engines=Engines(FakeEngine(), bench.engine))


async def done(rooms: Rooms, upid: Upid) -> None:
    ended = await rooms.tasks.wait(upid)
    assert ended.exitstatus == "OK", ended.exitstatus


async def create(bench: Bench, rooms: Rooms) -> None:
    image, blank = state_disk(bench.folder / "state.raw"), bench.folder / "blank.raw"
    blank.write_bytes(b"\0" * (1 << 20))
    options = VmOptions.parse(
        {
            "name": "state",
            "memory": "32",
            "serial0": "socket",
            "ide0": f"local:0,import-from={image},format=qcow2",
            "ide1": f"local:0,import-from={blank},format=raw",
        }
    )
    await done(rooms, await create_vm(rooms, ROOT, VMID, options, start=True))


async def say(rooms: Rooms, letters: str, vmid: int = VMID) -> int:
    """Send each letter and wait for its answer; the last one. A VM that boots still is asked until it answers."""
    descriptor = await rooms.vms.serial(vmid, 0)
    try:
        return await asyncio.to_thread(_say, descriptor, letters)
    finally:
        os.close(descriptor)


def _say(descriptor: int, letters: str) -> int:
    deadline = time.monotonic() + 60
    while not _answers(descriptor, "?", 1):
        assert time.monotonic() < deadline, "the VM does not answer"
    # What was asked before it listened is answered now as well.
    while select.select([descriptor], [], [], 0.5)[0]:
        os.read(descriptor, 4096)
    for letter in ["?", *letters]:
        answer = _answers(descriptor, letter, 30)
    return answer[-1]


def _answers(descriptor: int, letter: str, seconds: float) -> bytes:
    os.write(descriptor, letter.encode())
    return os.read(descriptor, 4096) if select.select([descriptor], [], [], seconds)[0] else b""


def test_a_snapshot_with_memory_goes_on_where_it_was(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms = await rooms_of(bench)
        await create(bench, rooms)
        assert await say(rooms, "iiiwi") == 4
        await done(rooms, await snapshot.take_snapshot(rooms, ROOT, VMID, "then", memory=True))
        assert rooms.vms.state(VMID) is GuestState.RUNNING
        assert await say(rooms, "iiw") == 6
        await done(rooms, await snapshot.roll_back(rooms, ROOT, VMID, "then"))
        assert await say(rooms, "") == 4
        assert await say(rooms, "r") == 3
        await done(rooms, await snapshot.delete_snapshot(rooms, ROOT, VMID, "then"))
        assert await say(rooms, "i") == 4

    live(story)


def test_a_snapshot_without_memory_and_sleep_on_the_disk(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms = await rooms_of(bench)
        await create(bench, rooms)
        assert await say(rooms, "iiiw") == 3
        await done(rooms, await snapshot.take_snapshot(rooms, ROOT, VMID, "then"))
        assert await say(rooms, "iiw") == 5
        await done(rooms, await snapshot.roll_back(rooms, ROOT, VMID, "then", start=True))
        assert await say(rooms, "") == 0
        assert await say(rooms, "r") == 3
        await done(rooms, await hibernate.suspend_to_disk(rooms, ROOT, VMID))
        assert rooms.vms.state(VMID) is GuestState.STOPPED
        await done(rooms, await power.start(rooms, ROOT, VMID))
        assert await say(rooms, "") == 3

    live(story)


def test_clones_are_machines_of_their_own(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms = await rooms_of(bench)
        await create(bench, rooms)
        assert await say(rooms, "iiw") == 2
        await done(rooms, await clone_vm(rooms, ROOT, VMID, Clone(COPY)))
        assert await say(rooms, "iw") == 3
        await done(rooms, await power.start(rooms, ROOT, COPY))
        assert await say(rooms, "r", COPY) == 2
        uuids = {await rooms.vms.monitor(vmid, "info uuid") for vmid in (VMID, COPY)}
        await done(rooms, await power.stop(rooms, ROOT, COPY))
        await done(rooms, await make_template(rooms, ROOT, COPY))
        for vmid in (COPY + 1, COPY + 2):
            await done(rooms, await clone_vm(rooms, ROOT, COPY, Clone(vmid)))
            await done(rooms, await power.start(rooms, ROOT, vmid))
            assert await say(rooms, "r", vmid) == 2
            uuids.add(await rooms.vms.monitor(vmid, "info uuid"))
        assert await say(rooms, "iw", COPY + 1) == 3
        assert await say(rooms, "r", COPY + 2) == 2
        assert len(uuids) == 4

    live(story)


def test_the_next_daemon_lets_a_vm_go_on(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms = await rooms_of(bench)
        await create(bench, rooms)
        assert await say(rooms, "i") == 1
        await rooms.store.put(f"standing/{VMID}", "")
        await rooms.vms.pause(VMID)
        await bench.another()
        rooms = replace(rooms, engines=Engines(FakeEngine(), bench.engine))
        await let_go(rooms)
        await recover(rooms)
        assert await say(rooms, "i") == 2

    live(story)


def test_the_next_daemon_stops_keeping_a_memory(live: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "_NO_LIMIT", 4096)  # bytes a second, so that the guest still runs meanwhile

    async def story(bench: Bench) -> None:
        rooms = await rooms_of(bench)
        await create(bench, rooms)
        assert await say(rooms, "i") == 1
        upid = await hibernate.suspend_to_disk(rooms, ROOT, VMID)
        async with asyncio.timeout(30):
            while "status: active" not in await rooms.vms.monitor(VMID, "info migrate"):
                await asyncio.sleep(0.02)
        await bench.another()
        later = replace(rooms, engines=Engines(FakeEngine(), bench.engine))
        await recover(later)
        assert "status: cancelled" in await later.vms.monitor(VMID, "info migrate")
        assert await say(later, "i") == 2
        assert not {"lock", "vmstate"} & set((await later.guests.get(VMID)).config)
        assert (await rooms.tasks.wait(upid)).exitstatus != "OK"

    live(story)
