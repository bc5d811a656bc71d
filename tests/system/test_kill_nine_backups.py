"""kill -9 of the daemon at many points of what saves containers and brings them back, into files and into borg.

`test_kill_nine_backup_proofs.py` has verification, restore tests and retention of files.
"""

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.disposable import mounted
from framework.evil import put_template
from framework.host import Host
from framework.patience import PATIENCE
from framework.roots import busybox_tar
from framework.sweeps import Act, Sweep, look_for_running

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

MIB = 1 << 20
DATA, MARK, COUNT = "/srv/data", "/srv/mark", "/count"
WRITER = f"(while :; do echo x >> {COUNT}; sleep 0.05; done) >/dev/null 2>&1 </dev/null &"


class Stage:
    """A host with storages for each way of saving, and a running container that nothing is done to."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.archive = put_template(host, "local", busybox_tar())
        self.dump = host.root / "state/storage/dump"
        self.content = {mark: os.urandom(12 * MIB) for mark in (b"old", b"new")}
        self.bystander = self.guest("local", start=True)
        self._lives = self.life(self.bystander)

    def sweep(self, *running: int, same: bool = True) -> Sweep:
        """A sweep after each kill of which these go on: the same as before, or (not `same`) started anew."""
        lives = {vmid: self.life(vmid) for vmid in running}

        def look() -> None:
            assert self.life(self.bystander) == self._lives, "the bystander has not gone on"
            for vmid, life in lives.items():
                assert not same or self.life(vmid) == life, "it is another one"
                if same:
                    self.goes_on(vmid)

        return Sweep(self.host, look, settle=lambda: look_for_running(self.host, lives))

    def guest(self, storage: str, *, start: bool = False) -> int:
        """A container with some content; one that runs writes all the time."""
        vmid = self.host.new_vmid()
        values = {"unprivileged": 1, "memory": 64, "hostname": f"c{vmid}", "rootfs": f"{storage}:0.125"}
        path = f"/nodes/{self.host.node}/lxc"
        self.host.wait(self.host.post(path, vmid=vmid, ostemplate=self.archive, start=int(start), **values))
        self.fill(vmid, b"new")
        if start:
            self.host.execute(vmid, "sh", "-c", WRITER)
        return vmid

    def fill(self, vmid: int, mark: bytes) -> None:
        for path, content in ((DATA, self.content[mark]), (MARK, mark)):
            answer = self.host.http.put(f"/bastide/guests/{vmid}/file", params={"path": path}, content=content)
            assert answer.status_code == 200, answer.text

    def read(self, vmid: int, path: str) -> bytes:
        answer = self.host.http.get(f"/bastide/guests/{vmid}/file", params={"path": path})
        assert answer.status_code == 200, answer.text
        return answer.content

    def holds(self, vmid: int) -> bytes:
        """The mark of the content that a container has; fails on a mixture."""
        mark = self.read(vmid, MARK)
        assert hashlib.sha256(self.read(vmid, DATA)).digest() == hashlib.sha256(self.content[mark]).digest()
        return mark

    def life(self, vmid: int) -> tuple[int, str]:
        """The first process of a running container, and when it began."""
        pid = self.host.get(self.host.path(vmid, "/status/current"))["pid"]
        return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    def goes_on(self, vmid: int) -> None:
        """Within 5 s it writes on."""
        deadline, before = time.monotonic() + 5 * PATIENCE, len(self.read(vmid, COUNT))
        while len(self.read(vmid, COUNT)) <= before:
            assert time.monotonic() < deadline, "it stands still"
            time.sleep(0.05)

    def vmids(self) -> set[int]:
        return {row["vmid"] for row in self.host.get(f"/nodes/{self.host.node}/lxc")}

    def remove(self, vmid: int) -> None:
        self.host.wait(self.host.delete(self.host.path(vmid), force=1))

    # backups

    def backups(self, storage: str, vmid: int) -> list[dict[str, Any]]:
        path = f"/nodes/{self.host.node}/storage/{storage}/content"
        rows: list[dict[str, Any]] = self.host.get(path, content="backup", vmid=vmid)
        return sorted(rows, key=lambda row: str(row["volid"]))

    def save(self, *vmids: int, storage: str = "local", **options: Any) -> str:
        """Begin a backup; its UPID."""
        wanted = ",".join(map(str, vmids))
        options = {"compress": "zstd", "remove": 0, **options}
        return str(self.host.post(f"/nodes/{self.host.node}/vzdump", vmid=wanted, storage=storage, **options))

    def saved(self, vmid: int, storage: str = "local") -> str:
        """Save a container; the backup's volume id."""
        self.host.wait(self.save(vmid, storage=storage))
        return str(self.backups(storage, vmid)[-1]["volid"])

    def is_saved(self, vmid: int, storage: str = "local") -> bool:
        """Whether there is a backup; each that is there is whole, and nothing of the making is left in its guest."""
        assert {row["name"] for row in self.host.get(self.host.path(vmid, "/snapshot"))} == {"current"}
        rows = self.backups(storage, vmid)
        for row in rows:
            if storage == "local":
                self._check_file(self.dump / row["volid"].rpartition("/")[2])
        if rows and storage != "local":
            self.host.wait(self.host.post("/bastide/backup/verify", storage=storage, vmid=vmid))
        return bool(rows)

    def _check_file(self, archive: Path) -> None:
        stream = subprocess.run(["zstd", "-dcq", str(archive)], check=True, capture_output=True).stdout
        listed = subprocess.run(["tar", "-t"], input=stream, check=True, capture_output=True).stdout
        assert f".{DATA}\n".encode() in listed

    def forget(self, *vmids: int, storage: str = "local") -> None:
        """Remove the backups of these guests."""
        for vmid in vmids:
            for row in self.backups(storage, vmid):
                gone = self.host.delete(f"/nodes/{self.host.node}/storage/{storage}/content/{row['volid']}")
                self.host.wait(gone) if gone else None

    def restore(self, vmid: int, volid: str, **options: Any) -> str:
        """Begin a restore; its UPID."""
        path = f"/nodes/{self.host.node}/lxc"
        return str(self.host.post(path, vmid=vmid, ostemplate=volid, restore=1, storage="local", **options))

    def is_restored(self, vmid: int) -> bool:
        if vmid not in self.vmids():
            return False
        assert self.holds(vmid) == b"new"
        return True


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with mounted("btrfs", tmp_path_factory.mktemp("btrfs")) as folder, Host.launched(number=3) as host:
        host.post("/storage", storage="tree", type="btrfs", path=str(folder), content="rootdir")
        host.post("/storage", storage="vault", type="borg", path=str(host.root / "vault"))
        yield Stage(host)


@pytest.fixture
def stage(built: Stage) -> Iterator[Stage]:
    others = built.vmids()
    yield built
    for vmid in sorted(built.vmids() - others, reverse=True):
        for storage in ("local", "vault"):
            built.forget(vmid, storage=storage)
        built.remove(vmid)


def _over_saving(stage: Stage, vmid: int, mode: str, points: int, storage: str = "local", **options: Any) -> None:
    sweep = stage.sweep(vmid, same=mode != "stop")
    act = Act(
        f"{mode} to {storage}",
        begin=lambda: stage.save(vmid, storage=storage, mode=mode, **options),
        done=lambda: stage.is_saved(vmid, storage),
        undo=lambda: stage.forget(vmid, storage=storage),
    )
    sweep.over(act, points)


def test_snapshots(stage: Stage) -> None:
    """Of a subvolume, that take an instant."""
    _over_saving(stage, stage.guest("tree", start=True), "snapshot", 6)


@pytest.mark.slow
def test_small_snapshots(stage: Stage) -> None:
    """Of a layer that is copied."""
    _over_saving(stage, stage.guest("local", start=True), "snapshot", 7)


@pytest.mark.slow
def test_suspending(stage: Stage) -> None:
    _over_saving(stage, stage.guest("local", start=True), "suspend", 8)


@pytest.mark.slow
def test_stopping(stage: Stage) -> None:
    _over_saving(stage, stage.guest("local", start=True), "stop", 8)


@pytest.mark.slow
def test_stopping_for_borg(stage: Stage) -> None:
    _over_saving(stage, stage.guest("tree", start=True), "stop", 6, "vault")


@pytest.mark.slow
def test_snapshots_in_borg(stage: Stage) -> None:
    _over_saving(stage, stage.guest("tree", start=True), "snapshot", 8, "vault")


@pytest.mark.slow
def test_one_that_does_not_run(stage: Stage) -> None:
    vmid = stage.guest("local")
    for storage in ("local", "vault"):
        act = Act(
            f"stopped, to {storage}",
            begin=lambda: stage.save(vmid, storage=storage),  # noqa: B023 - over before the next
            done=lambda: stage.is_saved(vmid, storage),  # noqa: B023
            undo=lambda: stage.forget(vmid, storage=storage),  # noqa: B023
        )
        stage.sweep().over(act, 4)


@pytest.mark.slow
def test_two_in_one_job(stage: Stage) -> None:
    one, two = stage.guest("tree", start=True), stage.guest("tree", start=True)
    act = Act(
        "two guests",
        begin=lambda: stage.save(one, two, mode="snapshot"),
        done=lambda: all([stage.is_saved(one), stage.is_saved(two)]),
        undo=lambda: stage.forget(one, two),
    )
    stage.sweep(one, two).over(act, 6)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["local", "vault"])
def test_restoring(stage: Stage, storage: str) -> None:
    newid = stage.host.new_vmid()
    volid = stage.saved(stage.guest("local"), storage)
    act = Act(
        f"restore from {storage}",
        begin=lambda: stage.restore(newid, volid),
        done=lambda: stage.is_restored(newid),
        undo=lambda: stage.remove(newid),
    )
    stage.sweep().over(act, 6)


@pytest.mark.parametrize("storage", ["local", pytest.param("vault", marks=pytest.mark.slow)])
def test_restoring_in_the_place_of_another(stage: Stage, storage: str) -> None:
    """It is the old one or the new one, and whole."""
    vmid = stage.guest("local")
    volid = stage.saved(vmid, storage)
    act = Act(
        f"restore over another from {storage}",
        begin=lambda: stage.restore(vmid, volid, force=1),
        done=lambda: stage.holds(vmid) == b"new",
        prepare=lambda: stage.fill(vmid, b"old"),
    )
    stage.sweep().over(act, 7)


@pytest.mark.slow
def test_retention_in_borg(stage: Stage) -> None:
    host, vmid = stage.host, stage.guest("local")

    def prepare() -> None:
        while len(stage.backups("vault", vmid)) < 2:
            stage.saved(vmid, "vault")

    keep = {"prune-backups": "keep-last=1", "vmid": vmid}
    act = Act(
        "prune borg",
        begin=lambda: str(host.delete(f"/nodes/{host.node}/storage/vault/prunebackups", **keep)),
        done=lambda: stage.is_saved(vmid, "vault") and len(stage.backups("vault", vmid)) == 1,
        prepare=prepare,
    )
    stage.sweep().over(act, 4)


@pytest.mark.slow
def test_verification_in_borg(stage: Stage) -> None:
    host, vmid = stage.host, stage.guest("local")
    stage.saved(vmid, "vault")

    def is_verified() -> bool:
        (row,) = stage.backups("vault", vmid)
        return row.get("verification", {}).get("state") == "ok"

    def forget() -> None:
        stage.forget(vmid, storage="vault")
        stage.saved(vmid, "vault")

    act = Act("verify borg", lambda: host.post("/bastide/backup/verify", storage="vault"), is_verified, forget)
    stage.sweep().over(act, 4)
