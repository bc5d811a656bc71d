"""A client nobody here wrote: proxmoxer takes a container back in time, makes a template of it, and looks at disks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

from framework.clients import TOKEN, USER, Login
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]


class Session:
    """A logged-in proxmoxer."""

    def __init__(self, host: Host, pve: Any) -> None:
        self.host = host
        self.pve = pve
        self.node = pve.nodes(host.node)

    def done(self, upid: str) -> None:
        status = Tasks.blocking_status(self.pve, upid, timeout=120, polling_interval=0.1)
        assert status is not None, "the task did not end"
        assert status["exitstatus"] == "OK", Tasks.decode_log(self.node.tasks(upid).log.get())


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch, Host.launched(number=5) as host:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they defeat verify_ssl=False
            patch.delenv(name, raising=False)
        login = Login.make(host)
        where = {"port": host.port, "verify_ssl": False, "timeout": 60}
        yield Session(host, ProxmoxAPI("127.0.0.1", user=USER, token_name=TOKEN, token_value=login.token, **where))


def test_a_containers_past_and_its_copies(session: Session) -> None:
    host, node = session.host, session.node
    vmid, clone = host.create(start=True, memory=128, rootfs="local:1"), host.new_vmid()
    guest = node.lxc(vmid)
    assert guest.feature.get(feature="snapshot") == {"hasFeature": 1}
    session.done(guest.snapshot.create(snapname="one", description="why"))
    guest.config.put(memory=192)
    session.done(guest.snapshot.create(snapname="two"))
    one, two, current = sorted(guest.snapshot.get(), key=lambda row: row.get("snaptime", 1 << 40))
    assert (one["name"], one["description"].strip(), two["parent"], current["parent"]) == ("one", "why", "one", "two")
    assert (current["name"], current["running"]) == ("current", 1)
    assert guest.snapshot("one").config.get()["memory"] == 128
    guest.snapshot("one").config.put(description="other")
    assert guest.snapshot.get()[0]["description"].strip() == "other"
    with pytest.raises(ResourceException, match=r"already (used|exists)"):
        guest.snapshot.create(snapname="one")

    session.done(guest.snapshot("one").rollback.post(start=1))
    assert guest.config.get()["memory"] == 128
    session.done(guest.status.stop.post())
    for name in ("two", "one"):
        session.done(guest.snapshot(name).delete())
    session.done(guest.template.post())
    assert guest.config.get()["template"] == 1
    with pytest.raises(ResourceException, match="template"):
        session.done(guest.status.start.post())
    assert guest.feature.get(feature="clone") == {"hasFeature": 1}
    session.done(guest.clone.post(newid=clone, hostname="copy"))
    assert node.lxc(clone).config.get()["hostname"] == "copy"
    rows = {row["vmid"]: row["template"] for row in session.pve.cluster.resources.get(type="vm")}
    assert (rows[vmid], rows[clone]) == (1, 0)
    session.done(node.lxc(clone).resize.put(disk="rootfs", size="+1G"))
    session.done(node.lxc(clone).delete())
    session.done(guest.delete())


def test_vms_as_provisioners_make_them(session: Session, tmp_path: Path) -> None:
    """What Terraform's providers send: a clone to a storage, waiting, a disk that moves and grows, options, a start."""
    host, node, pve = session.host, session.node, session.pve
    pve.storage.create(storage="fast", type="dir", path=str(tmp_path / "fast"), content="images")
    mould = host.create_vm(name="mould", scsi0="local:1,format=qcow2", ide2="local:cloudinit", boot="order=scsi0")
    session.done(node.qemu(mould).template.post())
    full, linked = host.new_vmid(), host.new_vmid()
    assert node.qemu(mould).feature.get(feature="clone") == {"hasFeature": 1, "nodes": [host.node]}
    assert pve.cluster.nextid.get(vmid=full) == str(full)
    wish = {"newid": full, "name": "web", "full": 1, "storage": "fast", "format": "qcow2", "target": host.node}
    session.done(node.qemu(mould).clone.post(**wish, description="made\nby code", bwlimit=0))
    with pytest.raises(ResourceException, match="already exists"):
        node.qemu(mould).clone.post(newid=full, full=1)
    with pytest.raises(ResourceException, match=str(full)):
        pve.cluster.nextid.get(vmid=full)
    vm = node.qemu(full)
    config = vm.config.get()
    assert (config["name"], config["description"].strip()) == ("web", "made\nby code")
    assert config["scsi0"].startswith(f"fast:{full}/")
    session.done(vm.move_disk.post(disk="scsi0", storage="local", delete=1, digest=config["digest"]))
    session.done(vm.resize.put(disk="scsi0", size="2G"))
    moved = vm.config.get()
    assert moved["scsi0"].startswith(f"local:{full}/")
    assert "size=2G" in moved["scsi0"]
    assert not [key for key in moved if key.startswith("unused")]
    session.done(vm.config.post(memory=96, cores=1, ciuser="ada", ipconfig0="ip=dhcp", delete="boot"))
    session.done(vm.status.start.post(timeout=60))
    assert vm.status.current.get()["status"] == "running"
    session.done(vm.status.stop.post())

    session.done(node.qemu(mould).clone.post(newid=linked, full=0, name="thin"))
    assert f"base-{mould}-disk-0" in node.qemu(linked).config.get()["scsi0"]
    with pytest.raises(ResourceException, match="storage"):
        node.qemu(mould).clone.post(newid=host.new_vmid(), full=0, storage="fast")
    upid = node.qemu(mould).delete()
    with pytest.raises(AssertionError):
        session.done(upid)
    for vmid in (linked, full, mould):
        session.done(node.qemu(vmid).delete(purge=1, **{"destroy-unreferenced-disks": 1}))
    assert [row["volid"] for row in node.storage("local").content.get(content="images")] == []
    pve.storage("fast").delete()


def test_storages_and_disks(session: Session, tmp_path: Path) -> None:
    pve, node = session.pve, session.node
    made = pve.storage.create(storage="shelf", type="dir", path=str(tmp_path / "shelf"), content="iso,images")
    assert (made["storage"], made["type"]) == ("shelf", "dir")
    config = pve.storage("shelf").get()
    assert config["content"] == "images,iso"
    pve.storage("shelf").put(content="iso", digest=config["digest"])
    with pytest.raises(ResourceException, match="modified configuration"):
        pve.storage("shelf").put(content="images", digest=config["digest"])
    assert [row["active"] for row in node.storage.get(storage="shelf")] == [1]
    pve.storage("shelf").delete()
    assert "shelf" not in [row["storage"] for row in pve.storage.get()]
    assert all(row["devpath"].startswith("/dev/") for row in node.disks.list.get(skipsmart=1))
    assert node.disks.directory.get() == []
    with pytest.raises(ResourceException) as refusal:
        node.disks.initgpt.post(disk="/dev/null")
    assert set(refusal.value.errors) == {"disk"}
    with pytest.raises(ResourceException, match="Permission check failed"):
        node.disks.wipedisk.put(disk="/dev/null")  # root@pam alone may
