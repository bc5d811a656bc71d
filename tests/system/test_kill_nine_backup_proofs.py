"""kill -9 of the daemon while it verifies backups, tries to restore one, and removes old ones."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.evil import put_template
from framework.host import Host
from framework.roots import busybox_tar
from framework.sweeps import Act, Sweep

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

_OWN = "/bastide/backup"


class Stage:
    """A host with a running container and its backup, and copies of that with earlier names."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.dump = host.root / "state/storage/dump"
        self.vmid = host.new_vmid()
        archive = put_template(host, "local", busybox_tar())
        values = {"unprivileged": 1, "memory": 64, "hostname": "one", "rootfs": "local:0.125"}
        host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=self.vmid, ostemplate=archive, start=1, **values))
        path = f"/bastide/guests/{self.vmid}/file"
        host.http.put(path, params={"path": "/srv/data"}, content=os.urandom(24 << 20)).raise_for_status()
        host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=self.vmid, storage="local", compress="gzip"))
        (self.newest,) = self.dump.glob("vzdump-*.tar.gz")
        self.tests = 0
        self._lives = self._life()
        self.sweep = Sweep(host, self._look)

    def _life(self) -> str:
        pid = self.host.get(self.host.path(self.vmid, "/status/current"))["pid"]
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    def _look(self) -> None:
        assert self._life() == self._lives, "the guest has not gone on"

    def add_earlier(self) -> None:
        """Backups of earlier days, with what lies beside them."""
        for day in range(1, 5):
            file = self.dump / f"vzdump-lxc-{self.vmid}-2026_01_0{day}-01_00_00.tar.gz"
            if not file.exists():
                shutil.copyfile(self.newest, file)
            for suffix in (".notes", ".sha256"):
                file.with_name(file.name + suffix).write_text("something\n")
            file.with_name(file.name.replace(".tar.gz", ".log")).write_text("INFO\n")

    def archives(self) -> set[str]:
        """The backups; fails when something lies beside none of them."""
        names = {path.name for path in self.dump.iterdir()}
        archives = {name for name in names if name.endswith(".tar.gz")}
        beside = {name + suffix for name in archives for suffix in (".notes", ".sha256")}
        beside |= {name.replace(".tar.gz", ".log") for name in archives}
        assert names - archives <= beside, names - archives - beside
        for name in archives:
            assert (self.dump / name).stat().st_size == self.newest.stat().st_size
        return archives

    def is_pruned(self) -> bool:
        return self.archives() == {self.newest.name}

    def forget_checksum(self) -> None:
        self.newest.with_name(f"{self.newest.name}.sha256").unlink(missing_ok=True)

    def is_verified(self) -> bool:
        (row,) = self.host.get(f"/nodes/{self.host.node}/storage/local/content", content="backup")
        there = self.newest.with_name(f"{self.newest.name}.sha256").exists()
        assert row.get("verification", {"state": "ok"})["state"] == "ok"
        return there

    def results(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.host.get(f"{_OWN}/tests", limit=500)
        return rows

    def count_results(self) -> None:
        self.tests = len(self.results())

    def is_tried(self) -> bool:
        rows = self.host.get("/cluster/resources", type="vm")
        assert [row["vmid"] for row in rows] == [self.vmid], "a copy has been left"
        return len(self.results()) > self.tests and self.results()[0]["ok"]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Host.launched(number=3) as host:
        yield Stage(host)


def test_a_restore_that_is_tried(stage: Stage) -> None:
    host = stage.host
    act = Act(
        "restore test",
        begin=lambda: host.post(f"{_OWN}/tests", vmid=stage.vmid, command="test -s /srv/data"),
        done=stage.is_tried,
        prepare=stage.count_results,
    )
    stage.sweep.over(act, points=8)


def test_a_verification(stage: Stage) -> None:
    host = stage.host
    act = Act(
        "verify",
        begin=lambda: host.post(f"{_OWN}/verify", storage="local"),
        done=stage.is_verified,
        undo=stage.forget_checksum,
    )
    stage.sweep.over(act, points=3)


def test_retention(stage: Stage) -> None:
    host = stage.host
    keep = {"prune-backups": "keep-last=1"}
    act = Act(
        "prune",
        begin=lambda: host.delete(f"/nodes/{host.node}/storage/local/prunebackups", **keep),
        done=stage.is_pruned,
        prepare=stage.add_earlier,
    )
    stage.sweep.over(act, points=3)
