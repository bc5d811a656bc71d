"""Storages that are full, or fill up in the middle: a clear error, nothing half made, and with room again all works."""

import contextlib
import io
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bastide.base.units import GIB, MIB
from framework.disposable import mounted
from framework.filling import full
from framework.host import ApiFailure, Host, TaskFailed
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

WEIGHT = 24 * MIB
"""What a guest holds."""
TEMPLATE = "local:vztmpl/heavy_1_amd64.tar.gz"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.launched(number=9) as launched:
        yield launched


@pytest.fixture(scope="module")
def image(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk image; the template is made beside it."""
    data = os.urandom(WEIGHT)
    found = tmp_path_factory.mktemp("image") / "disk.raw"
    found.write_bytes(data)
    with tarfile.open(
        host.root / "state/storage/template/cache/heavy_1_amd64.tar.gz", "w:gz", compresslevel=0
    ) as packed:
        for name, content in (("./etc/os-release", b"ID=debian\nVERSION_ID=12\n"), ("./srv/data", data)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return found


@pytest.fixture(scope="module")
def bystander(host: Host) -> int:
    """The process of a VM that runs whatever happens."""
    vmid = host.create_vm(start=True, freeze=1)
    return int(host.get(host.path(vmid, "/status/current"))["pid"])


@dataclass
class Small:
    """A storage named `small` on a file system of its own."""

    host: Host
    folder: Path
    bystander: int

    def refuses(self, begin: Callable[[], Any], left: int = 0) -> str:
        """Let something fail for want of room; returns what the user is told."""
        before = self.seen()
        with full(self.folder / "ballast", left):
            with pytest.raises((TaskFailed, ApiFailure)) as failed:
                self.host.wait(begin())
            told = str(failed.value).splitlines()[0]
            assert re.search("(?i)no space|full", told), told
            assert "small" in told, told
            assert "internal error" not in str(failed.value)
            self.settled(before)
        self.settled(before)
        return told

    def seen(self) -> dict[str, Any]:
        """The guests' configurations, and all volumes."""
        rows = self.host.get("/cluster/resources", type="vm")
        configs = {row["vmid"]: self.host.get(self.host.path(row["vmid"], "/config")) for row in rows}
        volumes = {
            row["volid"]
            for storage in ("local", "small")
            for row in self.host.get(f"/nodes/{self.host.node}/storage/{storage}/content")
        }
        snapshots = {row["vmid"]: self.host.get(self.host.path(row["vmid"], "/snapshot")) for row in rows}
        names = {vmid: [snapshot["name"] for snapshot in found] for vmid, found in snapshots.items()}
        return {"configs": configs, "volumes": volumes, "snapshots": names}

    def settled(self, before: dict[str, Any]) -> None:
        """All is as it was: no guest is locked, the bystander runs."""
        deadline = time.monotonic() + 30 * PATIENCE
        while (now := self.seen()) != before and time.monotonic() < deadline:
            time.sleep(0.2)
        assert now == before
        assert all("lock" not in config for config in now["configs"].values())
        os.kill(self.bystander, 0)
        assert list((self.folder / "files").glob(".[int]*/*")) == []


@pytest.fixture(params=["ext4", "btrfs"])
def small(request: pytest.FixtureRequest, host: Host, tmp_path: Path, bystander: int) -> Iterator[Small]:
    with mounted(request.param, tmp_path, 3 * GIB) as folder:
        kind = "btrfs" if request.param == "btrfs" else "dir"
        host.post("/storage", storage="small", type=kind, path=str(folder / "files"), content="rootdir,images")
        yield Small(host, folder, bystander)
        for row in host.get("/cluster/resources", type="vm"):
            if host.get(host.path(row["vmid"], "/status/current")).get("pid") != bystander:
                with contextlib.suppress(ApiFailure, TaskFailed):
                    host.act(row["vmid"], "stop")
                host.wait(host.delete(host.path(row["vmid"])))
        host.delete("/storage/small")


def _container(host: Host, storage: str) -> tuple[int, Callable[[], Any]]:
    vmid = host.new_vmid()
    values = {"ostemplate": TEMPLATE, "unprivileged": 1, "hostname": "heavy", "rootfs": f"{storage}:1"}
    return vmid, lambda: host.post(f"/nodes/{host.node}/lxc", vmid=vmid, **values)


def test_containers(small: Small, image: Path) -> None:
    host = small.host
    vmid, create = _container(host, "small")
    small.refuses(create, 8 * MIB)
    host.wait(create())
    whole = host.new_vmid()

    def clone() -> Any:
        return host.post(host.path(vmid, "/clone"), newid=whole, full=1, storage="small", hostname="whole")

    if small.folder.name == "ext4":  # on btrfs it shares all that it holds
        small.refuses(clone, 8 * MIB)
    host.wait(clone())

    def snapshot() -> Any:
        return host.post(host.path(whole, "/snapshot"), snapname="one")

    def rollback() -> Any:
        return host.post(host.path(whole, "/snapshot/one/rollback"))

    if small.folder.name == "ext4":
        small.refuses(snapshot, 8 * MIB)
    host.wait(snapshot())
    if small.folder.name == "ext4":
        small.refuses(rollback, 8 * MIB)
    host.wait(rollback())
    host.wait(host.delete(host.path(whole, "/snapshot/one")))

    moved, create = _container(host, "local")
    host.wait(create())

    def move() -> Any:
        return host.post(host.path(moved, "/move_volume"), volume="rootfs", storage="small", delete=1)

    small.refuses(move, 8 * MIB)
    host.wait(move())
    if small.folder.name == "ext4":
        small.refuses(lambda: host.put(host.path(moved, "/resize"), disk="rootfs", size="512M"), 8 * MIB)
    host.wait(host.put(host.path(moved, "/resize"), disk="rootfs", size="512M"))
    host.wait(host.put(host.path(moved, "/resize"), disk="rootfs", size="2G"))


def test_vms(small: Small, image: Path) -> None:
    host = small.host
    vmid = host.new_vmid()
    host._vms.add(vmid)
    disk = f"small:0,import-from={image},format=qcow2"

    def create() -> Any:
        values = {"memory": 64, "name": "heavy", "freeze": 1, "scsihw": "virtio-scsi-pci"}
        return host.post(f"/nodes/{host.node}/qemu", vmid=vmid, scsi0=disk, **values)

    small.refuses(create, 8 * MIB)
    host.wait(create())
    cloned = host.new_vmid()
    host._vms.add(cloned)

    def clone() -> Any:
        return host.post(host.path(vmid, "/clone"), newid=cloned, full=1, storage="small", format="raw")

    small.refuses(clone, 8 * MIB)
    host.wait(clone())

    here = host.create_vm(start=True, freeze=1, scsihw="virtio-scsi-pci", scsi0=f"local:0,import-from={image}")
    pid = host.get(host.path(here, "/status/current"))["pid"]

    def move() -> Any:
        return host.post(host.path(here, "/move_disk"), disk="scsi0", storage="small", format="qcow2", delete=1)

    small.refuses(move, 8 * MIB)
    host.wait(move())

    def snapshot() -> Any:
        return host.post(host.path(here, "/snapshot"), snapname="one", vmstate=1)

    small.refuses(snapshot)
    host.wait(snapshot())
    assert host.get(host.path(here, "/status/current"))["pid"] == pid
