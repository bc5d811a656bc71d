"""Clients nobody here wrote: Ansible's modules take guests back in time, copy them, move their disks, add storages."""

import hashlib
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.clients import Ansible, Login, Task
from framework.host import Host
from framework.patience import PATIENCE
from framework.served import served

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_SECONDS = 240
"""How long a module waits for a task."""


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    """Ansible, and a host of its own with a second storage."""
    with Host.launched(number=6) as host:
        host.post("/storage", storage="second", type="dir", path=str(host.root / "second"), content="images,rootdir")
        yield Ansible(host, Login.make(host), tmp_path_factory.mktemp("ansible"))


def told(results: list[dict[str, Any]]) -> list[str]:
    """What each task did: changed, unchanged, or its error."""
    return [
        str(result["msg"]) if result["failed"] else "changed" if result["changed"] else "unchanged"
        for result in results
    ]


def snap(vmid: int, name: str = "one", state: str = "present", **values: object) -> Task:
    return "proxmox_snap", {"vmid": str(vmid), "snapname": name, "state": state, "timeout": _SECONDS, **values}


def names(host: Host, vmid: int) -> list[str]:
    """The guest's snapshots, the present state left out."""
    return [row["name"] for row in host.get(host.path(vmid, "/snapshot")) if row["name"] != "current"]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_snapshots_of_a_running_container(ansible: Ansible) -> None:
    host = ansible.host
    vmid = host.create(start=True, memory=128, rootfs="local:1")
    host.execute(vmid, "sh", "-c", "echo before >/root/file")
    first = ansible.play(
        snap(vmid, description="why"),
        snap(vmid),
        snap(vmid, "two"),
        snap(vmid, "three", retention=2),
    )
    assert told(first) == ["changed", "unchanged", "changed", "changed"]
    wait_for(lambda: names(host, vmid) == ["two", "three"])  # the module does not
    assert host.get(host.path(vmid, "/status/current"))["status"] == "running"
    host.execute(vmid, "sh", "-c", "echo after >/root/file")
    second = ansible.play(
        snap(vmid, "two", "rollback"),
        snap(vmid, "two", "absent"),
        snap(vmid, "two", "absent"),
        snap(vmid, "three", "absent", force=True),
    )
    assert told(second) == ["changed", "changed", "unchanged", "changed"]
    if host.get(host.path(vmid, "/status/current"))["status"] != "running":
        host.act(vmid, "start")
    assert host.execute(vmid, "cat", "/root/file") == "before\n"
    host.act(vmid, "stop")


def test_templates_and_clones_of_containers(ansible: Ansible) -> None:
    host = ansible.host
    source = host.create(hostname="mould", memory=128, rootfs="local:1")
    copy, linked, full = (host.new_vmid() for _ in range(3))

    def container(vmid: int, name: str, **values: object) -> Task:
        return "proxmox", {"node": host.node, "vmid": vmid, "hostname": name, "timeout": _SECONDS, **values}

    results = ansible.play(
        container(copy, "copy", clone=source, storage="second"),
        container(source, "mould", state="template"),
        container(linked, "linked", clone=source, clone_type="linked", storage="local"),
        container(full, "full", clone=source, clone_type="full", storage="second"),
        container(linked, "linked", state="started"),
        container(source, "mould", state="started"),
    )
    assert told(results[:5]) == ["changed"] * 5
    assert results[5]["failed"], "a template does not start"
    rows = {row["vmid"]: row for row in host.get("/cluster/resources", type="vm")}
    assert {vmid: rows[vmid]["template"] for vmid in (source, copy, linked, full)} == {
        source: 1, copy: 0, linked: 0, full: 0,
    }  # fmt: skip
    configs = {vmid: host.get(host.path(vmid, "/config")) for vmid in (source, copy, linked, full)}
    assert f"base-{source}-disk-0" in configs[linked]["rootfs"]
    assert configs[copy]["rootfs"].startswith(f"second:{copy}/")
    assert configs[full]["rootfs"].startswith(f"second:{full}/")
    assert len({config["net0"] for config in configs.values()}) == 4, "each has an address of its own"
    assert host.execute(linked, "hostname").strip() == "linked"
    host.act(linked, "stop")


def test_snapshots_and_clones_of_vms(ansible: Ansible) -> None:
    host = ansible.host
    vmid = host.create_vm(name="form", scsi0="local:1,format=qcow2", net0=f"virtio,bridge={host.bridge}")
    earlier = host.new_vmid()

    def kvm(name: str, **values: object) -> Task:
        return "proxmox_kvm", {"node": host.node, "name": name, "timeout": _SECONDS, **values}

    results = ansible.play(
        snap(vmid),
        kvm("copy", clone="form", vmid=vmid, storage="second", format="raw"),
        kvm("earlier", clone="form", full=True, snapname="one", newid=earlier),
        snap(vmid, state="rollback"),
        snap(vmid, state="absent"),
        kvm("form", state="template"),
    )
    assert told(results) == ["changed"] * 6
    wait_for(lambda: host.get(host.path(vmid, "/config")).get("template") == 1)  # the module does not
    more = ansible.play(
        kvm("form", state="template"),
        kvm("linked", clone="form", full=False, format="unspecified"),
        ("proxmox_vm_info", {"type": "qemu", "config": "current"}),
    )
    assert told(more) == ["unchanged", "changed", "unchanged"]
    rows = {row["name"]: row for row in more[-1]["proxmox_vms"]}
    assert [rows[name]["template"] for name in ("form", "copy", "earlier", "linked")] == [True, False, False, False]
    assert f"base-{vmid}-disk-0" in rows["linked"]["config"]["scsi0"]
    assert rows["copy"]["config"]["scsi0"].startswith(f"second:{rows['copy']['vmid']}/")
    assert rows["earlier"]["vmid"] == earlier
    assert len({row["config"]["net0"] for row in rows.values()}) == 4
    assert len({row["config"]["smbios1"] for row in rows.values()}) == 4


def test_disks_move(ansible: Ansible) -> None:
    host = ansible.host
    vmid = host.create_vm(name="mover", start=True, scsi0="local:1,format=raw")
    giver = host.create_vm(name="giver", scsi1="local:1")
    other = host.create_vm(name="taker")

    def disk(name: str, key: str, **values: object) -> Task:
        return "proxmox_disk", {"name": name, "disk": key, "state": "moved", "timeout": _SECONDS, **values}

    results = ansible.play(
        disk("mover", "scsi0", target_storage="second", format="qcow2", delete_moved=True, bwlimit=1 << 30),
        disk("mover", "scsi0", target_storage="local"),
        disk("giver", "scsi1", target_vmid=other, target_disk="scsi3"),
    )
    assert told(results) == ["changed"] * 3
    config = host.get(host.path(vmid, "/config"))
    assert config["scsi0"].startswith(f"local:{vmid}/")
    assert config["unused0"].startswith(f"second:{vmid}/")
    assert host.get(host.path(vmid, "/status/current"))["status"] == "running"
    assert "scsi1" not in host.get(host.path(giver, "/config"))
    assert host.get(host.path(other, "/config"))["scsi3"].startswith(f"local:{other}/")


def test_storages(ansible: Ansible, tmp_path: Path) -> None:
    host = ansible.host
    folder = {"nodes": [host.node], "name": "shelf", "type": "dir", "dir_options": {"path": str(tmp_path / "shelf")}}
    far = {"nodes": [host.node], "name": "far", "state": "present", "content": ["images"]}
    server = {"server": "192.0.2.1"}
    results = ansible.play(
        ("proxmox_storage", {**folder, "state": "present", "content": ["iso", "backup"]}),
        ("proxmox_storage", {**folder, "state": "present", "content": ["iso", "backup"]}),
        ("proxmox_storage_info", {"storage": "shelf"}),
        ("proxmox_storage", {"name": "shelf", "type": "dir", "state": "absent"}),
        ("proxmox_storage", {"name": "shelf", "type": "dir", "state": "absent"}),
        ("proxmox_storage", {**far, "type": "zfspool", "zfspool_options": {"pool": "nothing"}}),
        ("proxmox_storage", {**far, "type": "pbs", "pbs_options": {
            **server, "username": "a@pbs", "password": "geheim", "datastore": "x"}}),
    )  # fmt: skip
    assert told(results[:5]) == ["changed", "unchanged", "unchanged", "changed", "unchanged"]
    assert [result["failed"] for result in results[5:]] == [True] * 2
    assert "not implemented" in results[6]["msg"]
    assert [row["storage"] for row in host.get("/storage")] == ["local", "second"]
    (shown,) = results[2]["proxmox_storages"]
    assert (shown["path"], sorted(shown["content"]), shown["nodes"]) == (
        str(tmp_path / "shelf"), ["backup", "iso"], [host.node],
    )  # fmt: skip


def test_templates_from_elsewhere(ansible: Ansible) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("etc"), io.BytesIO())
    host, data = ansible.host, packed.getvalue()
    right, name = hashlib.sha256(data).hexdigest(), "tiny_2_amd64.tar.gz"
    with served(host, data) as url:
        fetch = {"node": host.node, "storage": "local", "url": f"{url}/{name}", "timeout": _SECONDS}
        checked = {**fetch, "force": True, "checksum_algorithm": "sha256"}
        results = ansible.play(
            ("proxmox_template", fetch),
            ("proxmox_template", fetch),
            ("proxmox_template", {**checked, "checksum": right}),
            ("proxmox_template", {**checked, "checksum": "0" * 64, "template": "other_1_amd64.tar.gz"}),
            ("proxmox_storage_contents_info", {"node": host.node, "storage": "local", "content": "all"}),
            ("proxmox_template", {"node": host.node, "template": name, "state": "absent"}),
        )
    assert told([*results[:3], *results[4:]]) == ["changed", "unchanged", "changed", "unchanged", "changed"]
    assert "checksum mismatch" in results[3]["msg"].lower()
    listed = [row["volid"] for row in results[4]["proxmox_storage_content"]]
    assert f"local:vztmpl/{name}" in listed
    assert not any("other_1" in volid for volid in listed)


def test_a_running_vm_goes_on_where_it_was(ansible: Ansible) -> None:
    """With its memory: the module asks for no start, so a VM that runs after the rollback goes on from the snapshot."""
    host = ansible.host
    vmid = host.create_vm(name="alive", start=True, scsi0="local:1,format=qcow2")
    results = ansible.play(
        snap(vmid, vmstate=True),
        snap(vmid, state="rollback"),
        snap(vmid, state="absent"),
        snap(vmid, "slow", vmstate=True, timeout=0),
    )
    assert told(results[:3]) == ["changed"] * 3
    assert results[3]["msg"].startswith("Reached timeout while waiting for creating VM snapshot. Last line in task")
    assert host.get(host.path(vmid, "/status/current"))["status"] == "running"
    wait_for(lambda: any(row.get("vmstate") and "snapstate" not in row
                         for row in host.get(host.path(vmid, "/snapshot"))), 60)  # fmt: skip
    host.act(vmid, "stop")
