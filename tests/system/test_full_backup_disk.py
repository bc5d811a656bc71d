"""Backups and restores on full and broken disks: a clear error, nothing left but a log, and a guest that runs on."""

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.disposable import mounted
from framework.evil import put_template
from framework.faulty import Faulty
from framework.filling import full
from framework.host import ApiFailure, Host, TaskFailed
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

MIB = 1 << 20
WEIGHT = 24 * MIB
"""What a guest holds that nothing makes smaller."""


class Stage:
    """A host with a running container and a running VM, both heavy, and two storages for what comes out of them."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        archive = put_template(host, "local", busybox_tar())
        self.ct = host.new_vmid()
        values = {"unprivileged": 1, "memory": 64, "hostname": "heavy", "rootfs": "local:0.25"}
        host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=self.ct, ostemplate=archive, start=1, **values))
        path = f"/bastide/guests/{self.ct}/file"
        host.http.put(path, params={"path": "/srv/data"}, content=os.urandom(WEIGHT)).raise_for_status()
        disk = folder / "disk.raw"
        disk.write_bytes(bytes(MIB) + os.urandom(2 * WEIGHT))
        self.vm = host.create_vm(start=True, scsihw="virtio-scsi-pci", scsi0=f"local:0,import-from={disk},format=raw")
        self._lives = {vmid: self._life(vmid) for vmid in (self.ct, self.vm)}

    def _life(self, vmid: int) -> int:
        return int(self.host.get(self.host.path(vmid, "/status/current"))["pid"])

    def monitor(self, command: str) -> str:
        return str(self.host.post(self.host.path(self.vm, "/monitor"), command=command))

    def check_guests(self) -> None:
        """They are the same, not locked, not frozen, and write; no snapshot is left."""
        for vmid, pid in self._lives.items():
            assert self._life(vmid) == pid
            assert "lock" not in self.host.get(self.host.path(vmid, "/config"))
            assert [row["name"] for row in self.host.get(self.host.path(vmid, "/snapshot"))] == ["current"]
        path = f"/bastide/guests/{self.ct}/file"
        self.host.http.put(path, params={"path": "/srv/mark"}, content=b"x").raise_for_status()
        self.host.execute(self.ct, "sh", "-c", "echo on > /srv/mark")
        for command in ("write -P 0 0 64k", "flush"):
            assert self.monitor(f'qemu-io -d scsi0 "{command}"') == ""
        assert "copy-before-write" not in self.monitor("info block -n")

    def save(self, vmid: int, storage: str, **options: Any) -> str:
        """Begin a backup; its UPID."""
        options = {"mode": "snapshot", "compress": "zstd", "remove": 0, **options}
        return str(self.host.post(f"/nodes/{self.host.node}/vzdump", vmid=vmid, storage=storage, **options))

    def saved(self, vmid: int, storage: str) -> str:
        """Save a guest; the backup's volume id."""
        self.host.wait(self.save(vmid, storage))
        return self.backups(storage, vmid)[-1]

    def backups(self, storage: str, vmid: int) -> list[str]:
        path = f"/nodes/{self.host.node}/storage/{storage}/content"
        return sorted(row["volid"] for row in self.host.get(path, content="backup", vmid=vmid))

    def restore(self, vmid: int, volid: str, storage: str) -> str:
        """Begin a restore; its UPID."""
        if "-qemu-" in volid:
            self.host._vms.add(vmid)
            path = f"/nodes/{self.host.node}/qemu"
            return str(self.host.post(path, vmid=vmid, archive=volid, storage=storage))
        path = f"/nodes/{self.host.node}/lxc"
        return str(self.host.post(path, vmid=vmid, ostemplate=volid, restore=1, storage=storage))

    def vmids(self) -> set[int]:
        return {row["vmid"] for row in self.host.get("/cluster/resources", type="vm")}

    def fails(self, begin: Callable[[], Any], words: str) -> str:
        """Let a task fail, and look at its words and at the guests."""
        with pytest.raises((TaskFailed, ApiFailure)) as failed:
            self.host.wait(begin())
        told = str(failed.value)
        assert re.search(words, told, re.IGNORECASE), told
        assert "internal error" not in told
        assert "Traceback" not in told
        self.check_guests()
        return told


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Host.launched(number=9) as host:
        yield Stage(host, tmp_path_factory.mktemp("disk"))


@pytest.fixture
def small(stage: Stage, tmp_path: Path) -> Iterator[Path]:
    """The file system of a storage named `small`."""
    with mounted("ext4", tmp_path, 300 * MIB) as folder:
        stage.host.post(
            "/storage", storage="small", type="dir", path=str(folder / "s"), content="backup,images,rootdir"
        )
        yield folder
        stage.host.delete("/storage/small")


def _files(folder: Path) -> set[str]:
    """Files of a storage, its logs apart."""
    return {str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}


@pytest.mark.parametrize("kind", ["ct", "vm"])
def test_a_backup_that_does_not_fit(stage: Stage, small: Path, kind: str) -> None:
    vmid = getattr(stage, kind)
    before = _files(small)
    with full(small / "ballast", 8 * MIB):
        told = stage.fails(lambda: stage.save(vmid, "small"), "no space left for '.*vzdump-")
        assert "job errors" in told
        assert _files(small) == before | {str(small / "ballast")}
    stage.saved(vmid, "small")
    assert len(stage.backups("small", vmid)) == 1
    stage.check_guests()


@pytest.mark.parametrize("kind", ["ct", "vm"])
def test_a_restore_that_does_not_fit(stage: Stage, small: Path, kind: str) -> None:
    volid, newid = stage.saved(getattr(stage, kind), "local"), stage.host.new_vmid()
    before = _files(small)
    with full(small / "ballast", 8 * MIB):
        stage.fails(lambda: stage.restore(newid, volid, "small"), "no space|full")
        assert newid not in stage.vmids()
        assert _files(small) == before | {str(small / "ballast")}
    stage.host.wait(stage.restore(newid, volid, "small"))
    assert newid in stage.vmids()
    stage.host.wait(stage.host.delete(stage.host.path(newid)))


@pytest.mark.parametrize("where", ["storage", "copy"])
def test_the_place_of_the_first_copy_is_full(stage: Stage, small: Path, where: str) -> None:
    """`tmpdir` of a container that is suspended, and the archive's own place in that mode."""
    options = {"tmpdir": str(small)} if where == "copy" else {}
    before = _files(small)
    target = "local" if where == "copy" else "small"
    with full(small / "ballast", 8 * MIB):
        stage.fails(lambda: stage.save(stage.ct, target, mode="suspend", **options), "no space left")
    assert _files(small) == before
    assert [path.name for path in small.iterdir() if path.name.startswith("vzdumptmp")] == []
    stage.host.wait(stage.save(stage.ct, target, mode="suspend", **options))


def _overwrite_until_it_fails(stage: Stage, upid: str) -> None:
    """Have the VM overwrite what is being saved, which its fleece has no room for."""
    deadline = time.monotonic() + 60 * PATIENCE
    log = f"/nodes/{stage.host.node}/tasks/{upid}/log"
    while not any("guest was frozen" in row["t"] for row in stage.host.get(log, limit=500)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for place in range(1 + WEIGHT // MIB, 1 + 2 * WEIGHT // MIB):
        assert stage.monitor(f'qemu-io -d scsi0 "write -P 0x42 {place}M 1M"') == ""


def test_a_full_fleece(stage: Stage, small: Path) -> None:
    """What the guest writes is written; the backup is none."""
    held, before = stage.backups("local", stage.vm), _files(small)

    def begin() -> str:
        upid = stage.save(stage.vm, "local", fleecing="enabled=1,storage=small", bwlimit=512)
        _overwrite_until_it_fails(stage, upid)
        return upid

    with full(small / "ballast", 4 * MIB):
        stage.fails(begin, "could not be kept: its fleece is full|fills the place")
    assert stage.backups("local", stage.vm) == held
    assert _files(small) == before
    stage.host.wait(stage.save(stage.vm, "local", fleecing="enabled=1,storage=small"))


@pytest.fixture
def broken(stage: Stage, tmp_path: Path) -> Iterator[Faulty]:
    """The file system of a storage named `broken`."""
    with Faulty.mounted(tmp_path) as place:
        stage.host.post("/storage", storage="broken", type="dir", path=str(place.folder), content="backup")
        yield place
        place.work()
        stage.host.delete("/storage/broken")


@pytest.mark.parametrize("kind", ["ct", pytest.param("vm", marks=pytest.mark.slow)])
def test_writing_fails(stage: Stage, broken: Faulty, kind: str) -> None:
    vmid = getattr(stage, kind)
    broken.fail(1 << 60, errno.EIO)
    stage.saved(vmid, "broken")
    changes = broken.changes
    _forget(stage, vmid)
    before = _files(broken.behind)
    for after in (3, changes // 2):
        broken.fail(after, errno.EIO)
        stage.fails(lambda: stage.save(vmid, "broken"), "input/output error|write error|i/o error")
        broken.work()
        assert broken.failed
        assert stage.backups("broken", vmid) == []
        left = _files(broken.behind) - before
        # A disk that refuses everything does not let go of a file, either.
        assert all("/.incoming/" in path for path in left), left
        before |= left
    # Of one that fails once a write may have been repeated, and near the end are the archive's name and its log.
    for after in (0, changes // 2, *range(changes - 4, changes)):
        broken.fail(after, errno.EIO, 1)
        with contextlib.suppress(TaskFailed):
            stage.host.wait(stage.save(vmid, "broken"))
        broken.work()
        if stage.backups("broken", vmid):
            stage.host.wait(stage.host.post("/bastide/backup/verify", storage="broken", vmid=vmid))
        stage.check_guests()
        _forget(stage, vmid)
        assert _files(broken.behind) == before
    stage.saved(vmid, "broken")
    _forget(stage, vmid)


def _forget(stage: Stage, vmid: int) -> None:
    for volid in stage.backups("broken", vmid):
        gone = stage.host.delete(f"/nodes/{stage.host.node}/storage/broken/content/{volid}")
        stage.host.wait(gone) if gone else None


@pytest.mark.parametrize("kind", ["ct", pytest.param("vm", marks=pytest.mark.slow)])
def test_reading_fails(stage: Stage, broken: Faulty, kind: str) -> None:
    """Of an archive, when it is restored and when it is verified."""
    vmid, newid = getattr(stage, kind), stage.host.new_vmid()
    volid = stage.saved(vmid, "broken")
    images = stage.host.root / "state/storage/images"
    before = _files(images)
    for after in (0, 20):
        _uncached(broken)
        broken.fail_reads(after)
        stage.fails(lambda: stage.restore(newid, volid, "local"), "input/output error|read error|i/o error")
        broken.work()
        assert newid not in stage.vmids()
        assert _files(images) == before
    _uncached(broken)
    broken.fail_reads(20)
    stage.fails(lambda: stage.host.post("/bastide/backup/verify", storage="broken"), "input/output error|read error")
    broken.work()
    _uncached(broken)
    stage.host.wait(stage.host.post("/bastide/backup/verify", storage="broken"))
    stage.host.wait(stage.restore(newid, volid, "local"))
    stage.host.wait(stage.host.delete(stage.host.path(newid)))
    _forget(stage, vmid)


def _uncached(place: Faulty) -> None:
    """Have the kernel forget what it knows of the files."""
    for path in place.folder.glob("dump/vzdump-*"):
        file = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def test_removing_fails(stage: Stage, broken: Faulty) -> None:
    """Of old backups: those that stay are whole, and the next time they go."""
    stage.saved(stage.ct, "broken")
    newest = stage.saved(stage.ct, "broken")

    def prune() -> str:
        path = f"/nodes/{stage.host.node}/storage/broken/prunebackups"
        return str(stage.host.delete(path, **{"prune-backups": "keep-last=1"}))

    broken.fail(0, errno.EIO)
    stage.fails(prune, "input/output error")
    broken.work()
    assert newest in stage.backups("broken", stage.ct)
    stage.host.wait(stage.host.post("/bastide/backup/verify", storage="broken"))
    stage.host.wait(prune())
    assert stage.backups("broken", stage.ct) == [newest]
    _forget(stage, stage.ct)


def test_a_full_state_disk(tmp_path: Path) -> None:
    """No room for a log, a copy, a fleece: a backup may fail, and its guests go on."""
    temporary = tempfile.TemporaryDirectory(prefix="bst-", dir="/var/tmp")
    with temporary as place, mounted("ext4", Path(place), 400 * MIB) as folder:
        (folder / "h").mkdir()
        host = Host(folder / "h", number=8)
        try:
            host.start()
            stage = Stage(host, tmp_path)
            (tmp_path / "away").mkdir()
            host.post("/storage", storage="away", type="dir", path=str(tmp_path / "away"), content="backup")
            for vmid, mode in ((stage.ct, "snapshot"), (stage.ct, "suspend"), (stage.vm, "snapshot")):
                with full(host.root / "state" / "ballast"):
                    told = _told(stage, vmid, mode)
                    assert re.search("no space|full|^$", told, re.IGNORECASE), told
                assert host.process is not None
                assert host.process.poll() is None
                stage.check_guests()
                host.wait(stage.save(vmid, "away", mode=mode))
            assert "Traceback" not in host.daemon_log()
        finally:
            host.dispose()


def _told(stage: Stage, vmid: int, mode: str) -> str:
    """What a backup fails with, if it does."""
    try:
        stage.host.wait(stage.save(vmid, "away", mode=mode))
    except (TaskFailed, ApiFailure) as failure:
        return str(failure)
    return ""
