"""kill -9 of the daemon at many points of what copies a container, takes it back in time, moves it or gives it a size.

Over two storages whose means differ: overlays over a base on ext4, and subvolumes of btrfs.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.disposable import mounted
from framework.evil import put_template
from framework.host import Host
from framework.roots import busybox_tar
from framework.sweeps import Act, Sweep

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

MIB = 1 << 20
DATA = "/srv/data"
MARK = "/srv/mark"


class Stage:
    """A host with a storage, another one, and a container that nothing is done to and that must go on."""

    def __init__(self, host: Host, storage: str, other: str) -> None:
        self.host = host
        self.storage = storage
        self.other = other
        self.archive = put_template(host, storage, busybox_tar())
        self.content = os.urandom(8 * MIB)
        self.bystander = self.guest(start=True)
        self._lives = self.life(self.bystander)
        self.sweep = Sweep(host, self._look)

    def guest(self, vmid: int | None = None, *, start: bool = False) -> int:
        """A container with some content."""
        vmid = vmid or self.host.new_vmid()
        values = {"unprivileged": 1, "memory": 64, "hostname": f"c{vmid}", "rootfs": f"{self.storage}:0.125"}
        path = f"/nodes/{self.host.node}/lxc"
        self.host.wait(self.host.post(path, vmid=vmid, ostemplate=self.archive, start=int(start), **values))
        self.write(vmid, DATA, self.content)
        self.write(vmid, MARK, b"one")
        return vmid

    def life(self, vmid: int) -> tuple[int, str]:
        """The first process of a running container, and when it began."""
        pid = self.host.get(self.host.path(vmid, "/status/current"))["pid"]
        return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    def _look(self) -> None:
        assert self.life(self.bystander) == self._lives, "the bystander has not gone on"

    def remove(self, vmid: int) -> None:
        self.host.wait(self.host.delete(self.host.path(vmid), force=1))

    def rows(self) -> dict[int, dict[str, Any]]:
        return {row["vmid"]: row for row in self.host.get(f"/nodes/{self.host.node}/lxc")}

    def config(self, vmid: int) -> dict[str, Any]:
        config: dict[str, Any] = self.host.get(self.host.path(vmid, "/config"))
        return config

    def read(self, vmid: int, path: str) -> bytes:
        answer = self.host.http.get(f"/bastide/guests/{vmid}/file", params={"path": path})
        assert answer.status_code == 200, answer.text
        return answer.content

    def write(self, vmid: int, path: str, content: bytes) -> None:
        answer = self.host.http.put(f"/bastide/guests/{vmid}/file", params={"path": path}, content=content)
        assert answer.status_code == 200, answer.text

    def check_content(self, vmid: int, mark: bytes = b"one") -> None:
        """A container holds what the first one did."""
        assert hashlib.sha256(self.read(vmid, DATA)).digest() == hashlib.sha256(self.content).digest()
        assert self.read(vmid, MARK) == mark

    # the operations

    def snapshot(self, vmid: int, name: str = "now") -> str:
        return str(self.host.post(self.host.path(vmid, "/snapshot"), snapname=name))

    def forget(self, vmid: int, name: str = "now") -> str:
        return str(self.host.delete(self.host.path(vmid, f"/snapshot/{name}")))

    def has_snapshot(self, vmid: int, name: str = "now") -> bool:
        return name in {row["name"] for row in self.host.get(self.host.path(vmid, "/snapshot"))}

    def roll_back(self, vmid: int, name: str = "now") -> str:
        return str(self.host.post(self.host.path(vmid, f"/snapshot/{name}/rollback")))

    def clone(self, vmid: int, newid: int, **options: object) -> str:
        return str(self.host.post(self.host.path(vmid, "/clone"), newid=newid, **options))

    def has_clone(self, newid: int) -> bool:
        if newid not in self.rows():
            return False
        self.check_content(newid)
        return True

    def make_template(self, vmid: int) -> str:
        return str(self.host.post(self.host.path(vmid, "/template")))

    def move(self, vmid: int, storage: str) -> str:
        path = self.host.path(vmid, "/move_volume")
        return str(self.host.post(path, volume="rootfs", storage=storage, delete=1))

    def is_on(self, vmid: int, storage: str) -> bool:
        self.check_content(vmid)
        return str(self.config(vmid)["rootfs"]).startswith(f"{storage}:")

    def resize(self, vmid: int, size: str) -> str:
        return str(self.host.put(self.host.path(vmid, "/resize"), disk="rootfs", size=size))

    def has_size(self, vmid: int, size: int) -> bool:
        """Whether the configuration tells the size in MiB; then the volume has it."""
        self.check_content(vmid)
        volume, _, told = str(self.config(vmid)["rootfs"]).partition(",size=")
        if told != f"{size}M":
            return False
        storage = volume.partition(":")[0]
        rows = self.host.get(f"/nodes/{self.host.node}/storage/{storage}/content", vmid=vmid)
        assert [row["size"] for row in rows if row["volid"] == volume] == [size * MIB]
        return True


@pytest.fixture(scope="module")
def swept_host() -> Iterator[Host]:
    """A host for all sweeps: to begin and to end takes as long as many a kill."""
    with Host.launched(number=3) as launched:
        launched.post("/storage", storage="plain", type="dir", path=str(launched.root / "plain"), content="rootdir")
        yield launched


@pytest.fixture(scope="module", params=["overlay", pytest.param("btrfs", marks=pytest.mark.slow)])
def built(
    request: pytest.FixtureRequest, swept_host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A stage whose storage shares by that means."""
    if request.param == "overlay":
        yield Stage(swept_host, "local", "plain")
        return
    with mounted("btrfs", tmp_path_factory.mktemp("btrfs")) as folder:
        swept_host.post("/storage", storage="tree", type="btrfs", path=str(folder), content="rootdir")
        stage = Stage(swept_host, "tree", "plain")
        yield stage
        stage.remove(stage.bystander)
        swept_host.delete("/storage/tree")


@pytest.fixture
def stage(built: Stage) -> Iterator[Stage]:
    """A stage with nobody on it but the bystander."""
    others = {*built.rows()}
    yield built
    built.sweep.report()
    # What was made last may be a clone of what was made first.
    for vmid in sorted({*built.rows()} - others, reverse=True):
        built.remove(vmid)


def test_snapshots_of_a_running_container(stage: Stage) -> None:
    vmid = stage.guest(start=True)
    lives = stage.life(vmid)

    def taken() -> bool:
        assert stage.life(vmid) == lives
        return stage.has_snapshot(vmid)

    def forget() -> None:
        stage.host.wait(stage.forget(vmid))

    stage.sweep.over(Act("snapshot", lambda: stage.snapshot(vmid), taken, forget), 6)

    def take() -> None:
        stage.host.wait(stage.snapshot(vmid))

    stage.sweep.over(Act("snapshot-delete", lambda: stage.forget(vmid), lambda: not taken(), prepare=take), 5)


def test_the_way_back(stage: Stage) -> None:
    host, vmid = stage.host, stage.guest()
    host.wait(stage.snapshot(vmid))
    host.act(vmid, "start")

    def change() -> None:
        if stage.rows()[vmid]["status"] == "stopped":
            host.act(vmid, "start")
        stage.write(vmid, MARK, b"two")

    def is_back() -> bool:
        back = stage.read(vmid, MARK) == b"one"
        assert stage.rows()[vmid]["status"] == ("stopped" if back else "running")
        stage.check_content(vmid, b"one" if back else b"two")
        return back

    stage.sweep.over(Act("rollback", lambda: stage.roll_back(vmid), is_back, prepare=change), 6)


def test_clones(stage: Stage) -> None:
    host, source, newid = stage.host, stage.guest(start=True), stage.host.new_vmid()
    lives = stage.life(source)

    def is_whole() -> bool:
        assert stage.life(source) == lives
        return stage.has_clone(newid)

    def remove() -> None:
        stage.remove(newid)

    stage.sweep.over(Act("full clone", lambda: stage.clone(source, newid), is_whole, remove), 6)

    template = stage.guest()
    host.wait(stage.make_template(template))
    stage.sweep.over(Act("linked clone", lambda: stage.clone(template, newid), is_whole, remove), 6)
    stage.check_content(template)


def test_a_template(stage: Stage) -> None:
    vmid = stage.host.new_vmid()

    def make() -> None:
        stage.guest(vmid)

    def is_made() -> bool:
        stage.check_content(vmid)
        made = bool(stage.rows()[vmid].get("template"))
        assert (f"base-{vmid}" in stage.config(vmid)["rootfs"]) == made
        return made

    act = Act("template", lambda: stage.make_template(vmid), is_made, lambda: stage.remove(vmid), make)
    stage.sweep.over(act, 4)


def test_a_move(stage: Stage) -> None:
    vmid = stage.guest()

    def back() -> None:
        stage.host.wait(stage.move(vmid, stage.storage))

    act = Act("move", lambda: stage.move(vmid, stage.other), lambda: stage.is_on(vmid, stage.other), back)
    stage.sweep.over(act, 6)


def test_sizes(stage: Stage) -> None:
    host, vmid = stage.host, stage.guest()

    def shrink() -> None:
        host.wait(stage.resize(vmid, "128M"))

    def grow() -> None:
        host.wait(stage.resize(vmid, "192M"))

    stage.sweep.over(Act("grow", lambda: stage.resize(vmid, "192M"), lambda: stage.has_size(vmid, 192), shrink), 4)
    grow()
    stage.sweep.over(Act("shrink", lambda: stage.resize(vmid, "128M"), lambda: stage.has_size(vmid, 128), grow), 5)
