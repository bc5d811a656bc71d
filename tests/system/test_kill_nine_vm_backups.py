"""kill -9 of the daemon at many points of what saves VMs and brings them back, into files and into borg.

A running guest's system is a boot sector that waits for the power button. What it would write is written by its QEMU.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.host import Host
from framework.patience import PATIENCE
from framework.sweeps import Act, Sweep, look_for_running
from framework.vms import powering_off_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

MIB = 1 << 20
LARGE, SMALL = 12 * MIB, MIB
_WAITING = re.compile(r"EIP=00007c1\d .*HLT=1")
WRITTEN = 64 << 10
"""Bytes from 1 MiB of the large disk on that are written while it runs, always the same."""


class Stage:
    """A host and a running VM that nothing is done to; two contents of the disks of the others."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.content: dict[str, dict[str, Path]] = {}
        for word in ("old", "new"):
            large, small = folder / f"{word}.large.raw", folder / f"{word}.small.raw"
            powering_off_disk(large, LARGE)
            with large.open("r+b") as file:
                file.seek(MIB)
                file.write(b"\x42" * WRITTEN + os.urandom(8 * MIB))
            small.write_bytes(os.urandom(SMALL))
            self.content[word] = {"scsi0": large, "virtio0": small}
        self.bystander = host.create_vm(start=True, memory=32)
        self._lives = self.life(self.bystander)

    def guest(self, word: str = "new", *, start: bool = False) -> int:
        """A VM with a raw and a qcow2 disk."""
        files = self.content[word]
        vmid = self.host.create_vm(
            start=start, memory=32, scsihw="virtio-scsi-pci", boot="order=scsi0",
            scsi0=f"local:0,import-from={files['scsi0']},format=raw",
            virtio0=f"local:0,import-from={files['virtio0']},format=qcow2",
        )  # fmt: skip
        if start:
            self.goes_on(vmid, 5)
        return vmid

    def fill(self, vmid: int, word: str) -> None:
        """Give a stopped VM's disks a content."""
        for key, source in self.content[word].items():
            image = self.image(vmid, key)
            argv = ["qemu-img", "convert", "-n", "-f", "raw", "-O", image.suffix[1:], str(source), str(image)]
            subprocess.run(argv, check=True)

    def image(self, vmid: int, key: str) -> Path:
        volume = str(self.host.get(f"/nodes/{self.host.node}/qemu/{vmid}/config")[key]).partition(",")[0]
        return self.host.root / "state/storage/images" / volume.partition(":")[2]

    def holds(self, vmid: int) -> str:
        """Which content its disks have; fails on a mixture."""
        held = {key: self._content_of(self.image(vmid, key), key) for key in ("scsi0", "virtio0")}
        assert len(set(held.values())) == 1, held
        return held["scsi0"]

    def _content_of(self, image: Path, key: str) -> str:
        for word, files in self.content.items():
            argv = ["qemu-img", "compare", "-U", "-q", "-f", image.suffix[1:], "-F", "raw", image, files[key]]
            if subprocess.run(argv, check=False).returncode == 0:
                return word
        raise AssertionError(f"{key} holds something else")

    def life(self, vmid: int) -> int:
        return int(self.host.get(self.host.path(vmid, "/status/current"))["pid"])

    def monitor(self, vmid: int, command: str) -> str:
        return str(self.host.post(self.host.path(vmid, "/monitor"), command=command))

    def goes_on(self, vmid: int, seconds: float) -> None:
        """It runs and waits for the power button; what it writes to its disk is written; no filter is in the way."""
        deadline = time.monotonic() + seconds * PATIENCE
        while (status := self.host.get(self.host.path(vmid, "/status/current")))["qmpstatus"] != "running":
            assert time.monotonic() < deadline, f"it does not run again: {status}"
            time.sleep(0.1)
        for command in (f"write -P 0x42 {MIB} {WRITTEN}", "flush"):
            assert self.monitor(vmid, f'qemu-io -d scsi0 "{command}"') == ""
        nodes = self.monitor(vmid, "info block -n")
        assert "copy-before-write" not in nodes
        assert "snapshot-access" not in nodes
        # Before that it hears of no button.
        while not _WAITING.search(self.monitor(vmid, "info registers")):
            assert time.monotonic() < deadline + 60 * PATIENCE, "its system does not start"
            time.sleep(0.1)

    def sweep(self, *running: int, same: bool = True) -> Sweep:
        """A sweep after each kill of which these go on: the same as before, or (not `same`) started anew."""
        lives = {vmid: self.life(vmid) for vmid in running}

        def look() -> None:
            assert self.life(self.bystander) == self._lives, "the bystander has not gone on"
            for vmid, life in lives.items():
                self.goes_on(vmid, 5 if same else 30)
                assert not same or self.life(vmid) == life, "it is another one"

        return Sweep(self.host, look, settle=lambda: look_for_running(self.host, lives))

    def vmids(self) -> set[int]:
        return {row["vmid"] for row in self.host.get(f"/nodes/{self.host.node}/qemu")}

    def remove(self, vmid: int) -> None:
        if self.host.get(self.host.path(vmid, "/status/current"))["status"] == "running":
            self.host.act(vmid, "stop")
        self.host.wait(self.host.delete(self.host.path(vmid)))

    # backups

    def backups(self, storage: str, vmid: int) -> list[dict[str, Any]]:
        path = f"/nodes/{self.host.node}/storage/{storage}/content"
        rows: list[dict[str, Any]] = self.host.get(path, content="backup", vmid=vmid)
        return sorted(rows, key=lambda row: str(row["volid"]))

    def save(self, vmid: int, storage: str = "local", **options: Any) -> str:
        """Begin a backup; its UPID."""
        options = {"compress": "zstd", "remove": 0, "stopwait": 1, **options}
        return str(self.host.post(f"/nodes/{self.host.node}/vzdump", vmid=vmid, storage=storage, **options))

    def saved(self, vmid: int, storage: str = "local") -> str:
        """Save a VM; the backup's volume id."""
        self.host.wait(self.save(vmid, storage))
        return str(self.backups(storage, vmid)[-1]["volid"])

    def is_saved(self, vmid: int, storage: str = "local") -> bool:
        """Whether there is a backup; each that is there can be read to its end."""
        if not self.backups(storage, vmid):
            return False
        self.host.wait(self.host.post("/bastide/backup/verify", storage=storage, vmid=vmid))
        return True

    def forget(self, vmid: int, storage: str = "local") -> None:
        """Remove its backups."""
        for row in self.backups(storage, vmid):
            gone = self.host.delete(f"/nodes/{self.host.node}/storage/{storage}/content/{row['volid']}")
            self.host.wait(gone) if gone else None

    def restore(self, vmid: int, volid: str, **options: Any) -> str:
        """Begin a restore; its UPID."""
        self.host._vms.add(vmid)
        path = f"/nodes/{self.host.node}/qemu"
        return str(self.host.post(path, vmid=vmid, archive=volid, storage="local", **options))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Host.launched(number=3) as host:
        host.post("/storage", storage="vault", type="borg", path=str(host.root / "vault"))
        yield Stage(host, tmp_path_factory.mktemp("disks"))


@pytest.fixture
def stage(built: Stage) -> Iterator[Stage]:
    others = built.vmids()
    yield built
    for vmid in sorted(built.vmids() - others, reverse=True):
        for storage in ("local", "vault"):
            built.forget(vmid, storage)
        built.remove(vmid)


def _over_saving(
    stage: Stage, vmid: int, mode: str, points: int, storage: str = "local", *, running: bool = True, **more: Any
) -> None:
    sweep = stage.sweep(*[vmid][:running], same=mode != "stop")
    act = Act(
        f"{mode} to {storage}",
        begin=lambda: stage.save(vmid, storage, mode=mode, **more),
        done=lambda: stage.is_saved(vmid, storage),
        undo=lambda: stage.forget(vmid, storage),
    )
    sweep.over(act, points)
    assert stage.holds(vmid) == "new"


def test_snapshots(stage: Stage) -> None:
    _over_saving(stage, stage.guest(start=True), "snapshot", 7)


@pytest.mark.slow
def test_fleeces_on_a_storage(stage: Stage) -> None:
    vmid = stage.guest(start=True)
    _over_saving(stage, vmid, "snapshot", 8, fleecing="enabled=1,storage=local")


@pytest.mark.slow
def test_suspending(stage: Stage) -> None:
    _over_saving(stage, stage.guest(start=True), "suspend", 6)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["local", "vault"])
def test_stopping(stage: Stage, storage: str) -> None:
    _over_saving(stage, stage.guest(start=True), "stop", 8, storage)


@pytest.mark.slow
def test_snapshots_in_borg(stage: Stage) -> None:
    _over_saving(stage, stage.guest(start=True), "snapshot", 8, "vault")


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["local", "vault"])
def test_one_that_does_not_run(stage: Stage, storage: str) -> None:
    _over_saving(stage, stage.guest(), "snapshot", 4, storage, running=False)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["local", "vault"])
def test_restoring(stage: Stage, storage: str) -> None:
    newid, vmid = stage.host.new_vmid(), stage.guest()
    volid = stage.saved(vmid, storage)
    act = Act(
        f"restore from {storage}",
        begin=lambda: stage.restore(newid, volid),
        done=lambda: newid in stage.vmids() and stage.holds(newid) == "new",
        undo=lambda: stage.remove(newid),
    )
    stage.sweep().over(act, 6)


@pytest.mark.parametrize("storage", ["local", pytest.param("vault", marks=pytest.mark.slow)])
def test_restoring_in_the_place_of_another(stage: Stage, storage: str) -> None:
    """It is the old one or the new one, and whole."""
    vmid = stage.guest()
    volid = stage.saved(vmid, storage)
    act = Act(
        f"restore over another from {storage}",
        begin=lambda: stage.restore(vmid, volid, force=1),
        done=lambda: stage.holds(vmid) == "new",
        prepare=lambda: stage.fill(vmid, "old"),
    )
    stage.sweep().over(act, 6)
