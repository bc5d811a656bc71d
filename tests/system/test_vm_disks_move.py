"""Disks and memory of VMs that run: copied under load, kept and given back, whoever dies meanwhile."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.errors import NoSpace
from bastide.guest.vm_protocol import PlannedDisk, VmEngine, VmPlan
from bastide.model.guest import GuestState
from bastide.model.storage import DiskImage
from framework.vm_bench import VMID, Bench, Story, telling
from framework.vms import counted, counting_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
SIZE = 1 << 30
OPTIONS = {"scsi0": "local:x", "scsihw": "virtio-scsi-pci", "boot": "order=scsi0"}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    with telling(tmp_path) as tell:
        yield tell


def tool(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.DEVNULL)


async def written(engine: VmEngine, more: int) -> None:
    """Wait until the guest has written so many bytes more."""
    target: int | None = None
    async with asyncio.timeout(60):
        while True:
            status = await engine.status(VMID)
            assert status is not None
            now = status.disks["scsi0"].written
            target = now + more if target is None else target
            if now >= target:
                return
            await asyncio.sleep(0.05)


def chain(folder: Path) -> tuple[DiskImage, DiskImage]:
    """A qcow2 over the raw disk that the guest boots from, as a linked clone has it, and that base."""
    base = DiskImage(counting_disk(folder / "base.raw", SIZE), "raw")
    top = folder / "top.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", top)
    return DiskImage(top, "qcow2", backing=base), base


def chained(bench: Bench, image: DiskImage) -> VmPlan:
    plan = bench.plan(OPTIONS, files={"scsi0": image.path}, formats={"scsi0": "qcow2"})
    return replace(plan, disks=[replace(plan.disks[0], backing=image.backing, size=SIZE)])


def counts(folder: Path, image: DiskImage) -> tuple[int, int]:
    """The last number that the guest wrote to an image, and its boot; the numbers are without a gap."""
    flat = folder / "flat.raw"
    tool("qemu-img", "convert", "-f", image.format, "-O", "raw", image.path, flat)
    found = counted(flat)
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert len({boot for _, boot in found}) == 1, "it started anew"
    return len(found), found[0][1]


def test_a_disk_is_copied_while_the_guest_writes_to_it(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        image, base = chain(bench.folder)
        before = base.path.read_bytes()[: 2 << 20]
        plan = chained(bench, image)
        await bench.engine.start(plan)
        await written(bench.engine, 1 << 20)
        tool("qemu-img", "create", "-q", "-f", "raw", bench.folder / "copy.raw", str(SIZE))
        copy = DiskImage(bench.folder / "copy.raw", "raw")
        began = time.monotonic()
        await bench.engine.mirror(
            plan, "scsi0", PlannedDisk("scsi0", plan.disks[0].options, copy.path, "raw", SIZE), "t1"
        )
        async with asyncio.timeout(60):
            while True:
                mirror = await bench.engine.mirror_progress(VMID, "scsi0")
                assert mirror is not None
                if mirror.ready:
                    break
                await asyncio.sleep(0.02)
        in_step = time.monotonic()
        await written(bench.engine, 1 << 20)
        changing = time.monotonic()
        await bench.engine.change_over(VMID, "scsi0")
        print(f"in step after {in_step - began:.2f} s, changed over in {time.monotonic() - changing:.3f} s")
        # The next daemon asks QEMU, and works with the copy as with any image.
        engine = (await bench.another()).engine
        assert await engine.image_token(VMID, "scsi0") == "t1"
        await written(engine, 1 << 20)
        pid = engine.init_pid(VMID)
        held = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert str(copy.path) in held
        assert not held & {str(image.path), str(base.path)}, "the old images are closed"
        await engine.stop(VMID)
        old, boot = counts(bench.folder, image)
        new, same = counts(bench.folder, copy)
        assert (old < new, boot == same) == (True, True)
        assert copy.path.stat().st_blocks * 512 < SIZE // 2, "what was not written takes no space"
        assert base.path.read_bytes()[: 2 << 20] == before

    live(story)


def test_a_guest_goes_on_where_its_memory_was_kept(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        image, _ = chain(bench.folder)
        plan, engine = chained(bench, image), bench.engine
        await engine.start(plan)
        await written(engine, 1 << 20)

        async def at_rest() -> None:
            await engine.snapshot_disks(VMID, "one", ["scsi0"])

        with memory(bench) as file:
            began = time.monotonic()
            await engine.save_memory(VMID, file, at_rest)
            kept = time.monotonic()
            assert engine.state(VMID) is GuestState.PAUSED
            await engine.resume(VMID)
            print(f"kept in {kept - began:.2f} s ({os.fstat(file).st_size >> 20} MiB)")
            await written(engine, 1 << 20)
            await engine.stop(VMID)
            await engine.cleanup(VMID)
            later, boot = counts(bench.folder, image)
            tool("qemu-img", "snapshot", "-a", "one", image.path)
            then, _ = counts(bench.folder, image)
            assert then < later
            os.lseek(file, 0, os.SEEK_SET)
            began = time.monotonic()
            await engine.start_from(plan, file)
            print(f"given back in {time.monotonic() - began:.2f} s")
            await written(engine, 1 << 20)
            await engine.stop(VMID)
        now, same = counts(bench.folder, image)
        assert (now > then, same == boot) == (True, True)

    live(story)


def test_whoever_stops_keeping_the_memory_lets_the_guest_go_on(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        image, _ = chain(bench.folder)
        await bench.engine.start(chained(bench, image))
        await written(bench.engine, 1 << 20)
        resting: asyncio.Event = asyncio.Event()

        async def rest() -> None:
            resting.set()
            await asyncio.Event().wait()

        with memory(bench) as file:
            task = asyncio.create_task(bench.engine.save_memory(VMID, file, rest))
            await asyncio.wait_for(resting.wait(), 30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert bench.engine.state(VMID) is GuestState.RUNNING
            await written(bench.engine, 1 << 20)
            # A daemon that dies lets nothing go on: the next one does.
            resting.clear()
            task = asyncio.create_task(bench.engine.save_memory(VMID, file, rest))
            await asyncio.wait_for(resting.wait(), 30)
            dead = bench.engine
            engine = (await bench.another()).engine
            status = await engine.status(VMID)
            assert status is not None
            assert status.state == "finish-migrate"
            await engine.resume(VMID)
            await written(engine, 1 << 20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert dead.running() == frozenset()

    live(story)


def test_a_full_storage_takes_no_memory_and_stops_no_guest(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        image, _ = chain(bench.folder)
        await bench.engine.start(chained(bench, image))
        await written(bench.engine, 1 << 20)
        small = bench.folder / "small"
        small.mkdir()
        tool("mount", "-t", "tmpfs", "-o", "size=64k", "none", small)
        try:
            file = os.open(small / "memory", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                with pytest.raises(NoSpace):
                    await bench.engine.save_memory(VMID, file)
            finally:
                os.close(file)
            await written(bench.engine, 1 << 20)
        finally:
            await bench.engine.stop(VMID)
            tool("umount", small)

    live(story)


@contextlib.contextmanager
def memory(bench: Bench) -> Iterator[int]:
    file = os.open(bench.folder / "memory", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)
