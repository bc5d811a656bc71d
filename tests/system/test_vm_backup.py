"""A running VM is saved by a real daemon while it writes, and comes back as it was at one moment."""

import asyncio
import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.qemu.engine import QemuEngine
from bastide.model.access import ROOT
from bastide.model.backup import DiskExport
from bastide.model.guest import GuestState
from bastide.model.vm import VmOptions
from bastide.operations.backup.saving import Backup, Sink
from bastide.operations.vm import power
from bastide.operations.vm.backup import save_vm
from bastide.operations.vm.create import create_vm
from bastide.tasks.tasks import Task
from framework.host import Host, TaskFailed
from framework.rooms import fake_rooms
from framework.vm_bench import VMID, Bench, telling
from framework.vms import counted, counting_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SIZE = 512 << 20


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.launched() as host:
        yield host


@pytest.fixture(scope="module")
def guest(host: Host) -> int:
    """A VM that writes all the time, to a disk with a thread of its own, and one more disk and a TPM."""
    folder = host.root / "state/storage/import"
    counting_disk(folder / "counting.raw", SIZE)
    with (folder / "random.raw").open("wb") as file:
        file.write(os.urandom(16 << 20))
    return host.create_vm(
        start=True, memory="64", scsihw="virtio-scsi-single", boot="order=scsi0", tpmstate0="local:1,version=v2.0",
        scsi0="local:0,import-from=local:import/counting.raw,format=raw,iothread=1",
        virtio1="local:0,import-from=local:import/random.raw,format=qcow2", sata0="local:1,backup=0",
    )  # fmt: skip


def status(host: Host, vmid: int) -> str:
    return str(host.get(f"/nodes/{host.node}/qemu/{vmid}/status/current")["qmpstatus"])


def disk(host: Host, vmid: int) -> Path:
    (found,) = [
        path for path in (host.root / f"state/storage/images/{vmid}").glob("*.raw") if path.stat().st_size == SIZE
    ]
    return found


def goes_on(host: Host, vmid: int) -> None:
    """It runs, and writes."""
    assert status(host, vmid) == "running"
    before, until = len(counted(disk(host, vmid))), time.monotonic() + 60
    while len(counted(disk(host, vmid))) == before:
        assert time.monotonic() < until
        time.sleep(0.1)


def backups(host: Host, vmid: int) -> list[str]:
    rows = host.get(f"/nodes/{host.node}/storage/local/content", content="backup", vmid=vmid)
    return sorted(row["volid"] for row in rows)


def save(host: Host, vmid: int, mode: str, **more: object) -> tuple[str, str]:
    """Save it; the log and the new backup."""
    before = backups(host, vmid)
    log = host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, mode=mode, compress="zstd", remove=0, **more))
    (new,) = [volid for volid in backups(host, vmid) if volid not in before]
    return log, new


def leftovers(host: Host) -> list[str]:
    found = [
        *(host.root / "state").glob("tmp*"),
        *(host.root / "run/qemu").glob("*/nbd-*"),
        *(host.root / "run").glob("nbd-*"),
    ]
    return [str(path) for path in [*found, *(host.root / "state/storage").rglob("*fleece*")]]


@pytest.mark.parametrize("mode", ["snapshot", "suspend"])
def test_what_comes_back_is_of_one_moment(host: Host, guest: int, mode: str) -> None:
    goes_on(host, guest)
    before = len(counted(disk(host, guest)))
    log, volid = save(host, guest, mode, fleecing="enabled=1,storage=local" if mode == "snapshot" else None)
    assert leftovers(host) == []
    goes_on(host, guest)
    after = len(counted(disk(host, guest)))
    frozen = re.search(r"guest was frozen for (\d+) ms", log)
    assert (frozen is not None) == (mode == "snapshot"), log
    restored = host.new_vmid()
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=restored, archive=volid, storage="local"))
    config = host.get(f"/nodes/{host.node}/qemu/{restored}/config")
    assert {"scsi0", "virtio1", "tpmstate0"} <= set(config)
    assert "sata0" not in config or "disk" in config["sata0"]
    numbers = counted(disk(host, restored))
    assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
    assert len({boot for _, boot in numbers}) == 1
    assert before <= len(numbers) <= after
    host.wait(host.delete(f"/nodes/{host.node}/qemu/{restored}"))


def test_a_backup_that_is_stopped_lets_go_at_once(host: Host, guest: int) -> None:
    upid = host.post(f"/nodes/{host.node}/vzdump", vmid=guest, mode="snapshot", bwlimit="256", remove=0)
    _reached(host, upid, "guest was frozen")
    began = time.monotonic()
    host.delete(f"/nodes/{host.node}/tasks/{upid}")
    with pytest.raises(TaskFailed):
        host.wait(upid)
    assert time.monotonic() - began < 10
    assert leftovers(host) == []
    goes_on(host, guest)


def test_a_guest_that_does_not_shut_down_runs_on(host: Host, guest: int) -> None:
    with pytest.raises(TaskFailed, match="did not shut down"):
        save(host, guest, "stop", stopwait=0)
    goes_on(host, guest)


@pytest.mark.parametrize(
    ("mode", "line"), [("snapshot", "include disk"), ("snapshot", "guest was frozen"), ("suspend", "creating")]
)
def test_the_next_daemon_lets_the_guest_go_on(host: Host, guest: int, mode: str, line: str) -> None:
    held = backups(host, guest)
    upid = host.post(f"/nodes/{host.node}/vzdump", vmid=guest, mode=mode, bwlimit="256", remove=0)
    _reached(host, upid, line)
    host.kill()
    host.start()
    until = time.monotonic() + 30
    while status(host, guest) != "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    with contextlib.suppress(TaskFailed):
        host.wait(upid)
    assert leftovers(host) == []
    assert backups(host, guest) == held
    goes_on(host, guest)


def _reached(host: Host, upid: str, text: str) -> None:
    """Wait until a task's log has a line with that text."""
    until = time.monotonic() + 60
    while not any(text in row["t"] for row in host.get(f"/nodes/{host.node}/tasks/{upid}/log", limit=500)):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_guest_that_was_shut_down_is_saved_as_it_was_then(tmp_path: Path) -> None:
    """It runs again before it is saved."""

    async def story(bench: Bench) -> None:
        rooms = replace(await fake_rooms(bench.folder / "rooms"), engines=Engines(FakeEngine(), bench.engine))
        counting_disk(bench.folder / "counting.raw", SIZE)
        options = {
            "memory": "32", "scsihw": "virtio-scsi-single", "boot": "order=scsi0",
            "scsi0": f"local:0,import-from={bench.folder}/counting.raw,format=raw,iothread=1",
        }  # fmt: skip
        for made in (create_vm(rooms, ROOT, VMID, VmOptions.parse(options)), power.start(rooms, ROOT, VMID)):
            assert (await rooms.tasks.wait(await made)).exitstatus == "OK"
        (path,) = (rooms.layout.local_storage / f"images/{VMID}").glob("*.raw")
        await _until(lambda: len(counted(path)) > 2)
        then: list[tuple[int, int]] = []

        async def obey(vmid: int, _deadline: float) -> bool:
            await QemuEngine.stop(bench.engine, vmid)
            then.extend(counted(path))
            return True

        bench.engine.shutdown = obey  # type: ignore[method-assign]
        target = bench.folder / "read"

        class Reading:
            async def save_disks(self, disks: Sequence[DiskExport], _config: str) -> None:
                assert bench.engine.state(VMID) is GuestState.RUNNING
                await _until(lambda: counted(path)[0] != then[0])
                (disk,) = disks
                source = f"nbd+unix:///{disk.export}?socket={disk.socket.name}"
                argv = ["qemu-img", "convert", "-f", "raw", "-O", "raw", source, str(target)]
                await asyncio.to_thread(
                    subprocess.run, argv, check=True, cwd=disk.socket.parent
                )  # its path may be long

        async def work(task: Task) -> None:
            async with rooms.locks.hold(VMID, task.upid, "backup") as held:
                sink = cast(Sink, Reading())
                await save_vm(rooms, Backup(await rooms.guests.get(VMID), "stop", sink, held, task))

        saved = await rooms.tasks.wait(await rooms.tasks.start("vzdump", str(VMID), ROOT, work))
        assert saved.exitstatus == "OK"
        assert counted(target) == then
        assert bench.engine.state(VMID) is GuestState.RUNNING

    with telling(tmp_path) as tell:
        tell(story)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.05)
