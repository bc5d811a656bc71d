"""A running VM's disks at one moment, on a real QEMU whose guest writes all the time."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, WrongState
from bastide.guest.vm_protocol import VmPlan, at_once
from bastide.model.backup import DiskExport
from bastide.model.guest import GuestState
from framework.vm_bench import VMID, Bench, Story, telling
from framework.vms import counted, counting_disk

SIZE = 4 << 20
WRITTEN = 64 << 20
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DISKS = {
    "scsi0": "local:a,iothread=1", "scsi1": "local:b", "virtio0": "local:c", "virtio1": "local:d,iothread=1",
    "sata0": "local:e", "ide0": "local:f", "scsi2": "local:g,ro=1",
}  # fmt: skip


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    with telling(tmp_path) as tell:
        yield tell


def make_vm(bench: Bench, disks: Mapping[str, str] = DISKS, **options: Any) -> VmPlan:
    """A guest that writes to `scsi0` all the time, with more disks, half of them qcow2."""
    files, forms = {}, {}
    for number, key in enumerate(disks):
        path = bench.folder / key
        if key == "scsi0":
            files[key] = counting_disk(path, WRITTEN)
            continue
        forms[key] = "qcow2" if number % 2 else "raw"
        subprocess.run(["qemu-img", "create", "-q", "-f", forms[key], str(path), str(SIZE)], check=True)
        files[key] = path
    more = {"scsihw": "virtio-scsi-single", "boot": "order=scsi0", **options}
    return bench.plan({**disks, **more}, files=files, formats=forms)


@contextlib.contextmanager
def fleeces(bench: Bench, keys: Mapping[str, str]) -> Iterator[dict[str, int]]:
    found = {key: os.open(bench.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600) for key in keys}
    try:
        yield found
    finally:
        for descriptor in found.values():
            os.close(descriptor)


async def write(bench: Bench, key: str, pattern: int) -> None:
    """Write to a disk as the guest would."""
    name = f"-d {key}/virtio-backend" if key.startswith("virtio") else f"-d {key}"
    assert await bench.engine.monitor(VMID, f'qemu-io {name} "write -P {pattern} 64k 1M"') == ""


async def read(export: DiskExport, target: Path) -> Path:
    source = f"nbd+unix:///{export.export}?socket={export.socket.name}"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "raw", source, str(target)]
    # The path of the folder may be longer than an address of a socket can be.
    done = await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, timeout=60, cwd=export.socket.parent
    )
    if done.returncode:
        raise HostFailure(done.stderr)
    return target


async def graph(bench: Bench) -> Any:
    """QEMU's images, what uses them, and the descriptors that it was given.

    Without those of fleeces that it closes only when the guest goes on.
    """
    monitor = bench.engine._runtime.require(VMID).monitor
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    used = await monitor.execute("query-block")
    sets = await monitor.execute("query-fdsets")
    running = bench.engine.state(VMID) is GuestState.RUNNING
    return (
        sorted(row["node-name"] for row in nodes),
        sorted((row["qdev"], (row.get("inserted") or {}).get("node-name")) for row in used),
        sorted(
            one["opaque"] for row in sets for one in row["fds"] if running or not one["opaque"].startswith("fleece-")
        ),
    )


async def begun_writing(bench: Bench) -> None:
    async with asyncio.timeout(30):
        while len(counted(bench.folder / "scsi0")) < 3:
            await asyncio.sleep(0.05)


def test_every_disk_is_read_as_it_was_while_the_guest_goes_on(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine = bench.engine
        await engine.start(make_vm(bench))
        await begun_writing(bench)
        for key in DISKS:
            if key not in ("scsi0", "scsi2"):
                await write(bench, key, 0x11)
        before, writable = await graph(bench), [key for key in DISKS if key not in ("scsi0", "scsi2")]

        @contextlib.asynccontextmanager
        async def still() -> AsyncIterator[None]:
            await engine.pause(VMID)
            shutil.copy(bench.folder / "scsi0", bench.folder / "then")
            yield
            await engine.resume(VMID)

        for round_ in range(2):
            with fleeces(bench, DISKS) as given:
                exports = await engine.begin_backup(VMID, given, still=still)
            assert list(exports) == list(DISKS)
            assert engine.state(VMID) is GuestState.RUNNING
            for key in writable:
                await write(bench, key, 0x22 + round_)
            behind = len(counted(bench.folder / "then"))
            async with asyncio.timeout(30):
                while len(counted(bench.folder / "scsi0")) <= behind:
                    await asyncio.sleep(0.05)
            with pytest.raises(WrongState), fleeces(bench, {"ide0": ""}) as given:
                await engine.begin_backup(VMID, given)
            for refused in (engine.resize_disk(VMID, "sata0", 2 * SIZE), engine.snapshot_disks(VMID, "a", ["sata0"])):
                with pytest.raises(WrongState, match="backup of sata0"):
                    await refused
            taken = await read(exports["scsi0"], bench.folder / "scsi0.out")
            assert taken.read_bytes() == (bench.folder / "then").read_bytes()
            for key in writable:
                content = (await read(exports[key], bench.folder / f"{key}.out")).read_bytes()
                expected = bytes([0x11 if not round_ else 0x22]) * (1 << 20)
                assert content == bytes(64 << 10) + expected + bytes(SIZE - (1 << 20) - (64 << 10)), key
            assert (await read(exports["scsi2"], bench.folder / "scsi2.out")).read_bytes() == bytes(SIZE)
            assert await engine.backup_failed(VMID) is None
            await engine.end_backup(VMID)
            await engine.end_backup(VMID)
            assert await graph(bench) == before
            assert engine.state(VMID) is GuestState.RUNNING
        assert await engine.backup_failed(VMID) is not None
        assert not list((bench.layout.runtime / "qemu" / str(VMID)).glob("nbd-*"))

    live(story)


def test_a_fleece_that_cannot_be_written_ends_the_backup_and_not_the_guest(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine = bench.engine
        await engine.start(make_vm(bench, {"scsi0": "local:a", "virtio1": "local:b,iothread=1"}))
        await begun_writing(bench)
        before = await graph(bench)
        refusing = os.memfd_create("fleece", os.MFD_ALLOW_SEALING)
        fcntl.fcntl(refusing, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with fleeces(bench, {"scsi0": ""}) as given:
            exports = await engine.begin_backup(VMID, {**given, "virtio1": refusing})
        os.close(refusing)
        assert await engine.backup_failed(VMID) is None
        await write(bench, "virtio1", 0x33)
        why = await engine.backup_failed(VMID)
        assert why is not None
        assert "virtio1" in why
        with pytest.raises(HostFailure):
            await read(exports["virtio1"], bench.folder / "out")
        behind = len(counted(bench.folder / "scsi0"))
        async with asyncio.timeout(30):
            while len(counted(bench.folder / "scsi0")) <= behind:
                await asyncio.sleep(0.05)
        await engine.end_backup(VMID)
        assert await graph(bench) == before
        status = await engine.status(VMID)
        assert status is not None
        assert (status.state, status.error) == ("running", None)

    live(story)


@pytest.mark.parametrize("paused", [False, True])
def test_the_next_daemon_lets_go_and_a_reader_that_dies_takes_no_guest_along(
    live: Callable[[Story], None], paused: bool
) -> None:
    async def story(bench: Bench) -> None:
        await bench.engine.start(make_vm(bench), paused=paused)
        before = await graph(bench)
        with fleeces(bench, DISKS) as given:
            exports = await bench.engine.begin_backup(VMID, given)
        readers = []
        for export in exports.values():
            source = f"nbd+unix:///{export.export}?socket={export.socket.name}"
            argv = ["qemu-io", "-r", "-f", "raw", source]
            readers.append(await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, cwd=export.socket.parent))
        await asyncio.sleep(1)
        for reader in readers:
            assert reader.returncode is None
            reader.kill()
            await reader.wait()
        engine = (await bench.another()).engine
        assert engine.running() == {VMID}
        assert await engine.backup_failed(VMID) is not None
        await engine.end_backup(VMID)
        assert await graph(bench) == before
        assert engine.state(VMID) is (GuestState.PAUSED if paused else GuestState.RUNNING)
        with fleeces(bench, DISKS) as given:
            exports = await engine.begin_backup(VMID, given, resume=True)
        assert engine.state(VMID) is GuestState.RUNNING
        await read(exports["virtio1"], bench.folder / "out")
        await engine.stop(VMID)
        assert await engine.backup_failed(VMID) == f"VM {VMID} has ended"
        await engine.end_backup(VMID)

    live(story)


def test_a_beginning_that_fails_leaves_the_guest_as_it_was(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine = bench.engine
        await engine.start(make_vm(bench))
        before = await graph(bench)

        @contextlib.asynccontextmanager
        async def still() -> AsyncIterator[None]:
            yield
            raise HostFailure("no")

        for keys, moment in (({**DISKS, "scsi9": ""}, at_once), (DISKS, still)):
            with fleeces(bench, keys) as given, pytest.raises((HostFailure, WrongState)):
                await engine.begin_backup(VMID, given, still=moment)
            assert await graph(bench) == before
            assert engine.state(VMID) is GuestState.RUNNING

    live(story)


def test_efi_variables_are_a_disk_like_the_others(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine, variables = bench.engine, bench.folder / "efi"
        config = bench.plan({"bios": "ovmf", "efidisk0": "local:e,efitype=4m"}).config
        await engine._host()
        shutil.copy(engine.efi_variables(config), variables)
        options = {"bios": "ovmf", "efidisk0": "local:e,efitype=4m", "machine": "q35"}
        await engine.start(bench.plan(options, files={"efidisk0": variables}), paused=True)
        before, then = await graph(bench), variables.read_bytes()
        with fleeces(bench, {"efidisk0": ""}) as given:
            exports = await engine.begin_backup(VMID, given, resume=True)
        await asyncio.sleep(3)
        assert (await read(exports["efidisk0"], bench.folder / "out")).read_bytes() == then
        await engine.end_backup(VMID)
        assert await graph(bench) == before

    live(story)
