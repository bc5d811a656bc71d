"""Clients nobody here wrote: Ansible's modules for Proxmox VE drive real VMs, their disks and network cards."""

from collections.abc import Iterator
from typing import Any

import pytest

from framework.clients import Ansible, Login, Task
from framework.host import Host

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    """Ansible, and a host of its own."""
    with Host.launched(number=8) as host:
        yield Ansible(host, Login.make(host), tmp_path_factory.mktemp("ansible"))


def kvm(ansible: Ansible, name: str, **values: object) -> Task:
    """A task of proxmox_kvm; `timeout` is how long the VM may take to halt, which firmware alone never does."""
    return "proxmox_kvm", {"node": ansible.host.node, "name": name, "timeout": 20, **values}


def told(results: list[dict[str, Any]]) -> list[str]:
    """What each task did: changed, unchanged, or its error."""
    return [
        str(result["msg"]) if result["failed"] else "changed" if result["changed"] else "unchanged"
        for result in results
    ]


def test_a_vms_life(ansible: Ansible) -> None:
    host = ansible.host
    hardware: dict[str, object] = {
        "memory": 64, "cores": 1, "bios": "ovmf", "scsihw": "virtio-scsi-pci", "boot": "order=scsi0;net0",
        "scsi": {"scsi0": "local:1,format=raw"}, "ide": {"ide2": "local:cloudinit"},
        "efidisk0": {"storage": "local", "efitype": "4m", "format": "raw", "pre_enrolled_keys": False},
        "tpmstate0": {"storage": "local", "version": "2.0"}, "net": {"net0": f"virtio,bridge={host.bridge}"},
        "serial": {"serial0": "socket"}, "vga": "serial0", "agent": "enabled=1", "ostype": "l26",
        "ciuser": "ada", "ipconfig": {"ipconfig0": "ip=dhcp"}, "sshkeys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 a b",
        "tags": ["b", "a"], "description": "two\nlines", "onboot": False,
    }  # fmt: skip
    made, *results = ansible.play(
        kvm(ansible, "life", **hardware),
        kvm(ansible, "life", **hardware),
        kvm(ansible, "life", state="started"),
        kvm(ansible, "life", state="started"),
        kvm(ansible, "life", state="current"),
        kvm(ansible, "life", update=True, cores=2, memory=96, description="new"),
        kvm(ansible, "life", state="restarted", force=True),
        kvm(ansible, "life", state="absent"),
        kvm(ansible, "life", state="stopped", force=True, timeout=1),
        kvm(ansible, "life", state="stopped", force=True, timeout=1),
        kvm(ansible, "life", delete="description"),
        ("proxmox_vm_info", {"name": "life", "config": "current"}),
        kvm(ansible, "life", state="absent"),
        kvm(ansible, "life", state="absent"),
    )
    assert not made["failed"], made["msg"]
    vmid = made["vmid"]
    assert made["devices"]["scsi0"] == f"local:{vmid}/vm-{vmid}-disk-0.raw"
    assert made["mac"]["net0"].count(":") == 5
    assert told(results) == [
        "unchanged",
        "changed", "unchanged", "unchanged",
        "changed", "changed",
        "unchanged",  # it runs
        "changed", "unchanged",
        "changed", "unchanged",
        "changed", "unchanged",
    ]  # fmt: skip
    assert results[3]["status"] == "running"
    (vm,) = results[10]["proxmox_vms"]
    config = vm["config"]
    assert (vm["status"], config["cores"], config["memory"], "description" in config) == ("stopped", 2, "96", False)
    assert config["efidisk0"].startswith(f"local:{vmid}/vm-{vmid}-disk-")
    assert config["net0"].startswith(f"virtio={made['mac']['net0']},bridge={host.bridge}")


def test_disks(ansible: Ansible) -> None:
    def disk(key: str, state: str = "present", **values: object) -> Task:
        return "proxmox_disk", {"name": "disks", "disk": key, "state": state, **values}

    options = {"cache": "writeback", "backup": False, "serial": "abc", "ssd": True, "discard": "on"}
    made, *results = ansible.play(
        kvm(ansible, "disks", memory=64, scsi={"scsi0": "local:1"}),
        kvm(ansible, "disks", state="started"),
        disk("scsi1", storage="local", size="1"),
        disk("scsi1", storage="local", size="1"),
        disk("scsi1", size="+1G", state="resized"),
        disk("scsi1", size="2G", state="resized"),
        disk("scsi1", state="detached"),
        disk("scsi1", state="detached"),
        kvm(ansible, "disks", state="stopped", force=True, timeout=1),
        disk("scsi0", **options),
        disk("scsi0", **options),
        disk("scsi0", storage="local", size="1", create="forced", format="qcow2"),
        disk("unused0", state="absent"),
        disk("unused0", state="absent"),
        disk("ide2", media="cdrom", iso_image="none"),
        disk("scsi0", target_storage="local", state="moved"),
        ("proxmox_vm_info", {"name": "disks", "config": "pending"}),
    )
    assert not made["failed"], made["msg"]
    assert told(results) == [
        "changed",
        "changed", "unchanged",
        "changed", "unchanged",
        "changed", "unchanged",
        "changed",
        "changed", "unchanged",
        "changed",
        "changed", "unchanged",
        "changed", "unchanged",
        "unchanged",
    ]  # fmt: skip
    vmid, config = made["vmid"], results[-1]["proxmox_vms"][0]["config"]
    assert config["scsi0"] == f"local:{vmid}/vm-{vmid}-disk-2.qcow2,size=1G"
    # Each replaced or detached disk is kept as unused until it is removed.
    assert [key for key in config if key.startswith("unused")] == ["unused1"]
    (imported,) = ansible.play(disk("sata0", storage="local", import_from=config["scsi0"].partition(",")[0]))
    assert told([imported]) == ["changed"]
    assert ansible.host.get(f"/nodes/{ansible.host.node}/qemu/{vmid}/config")["sata0"].endswith("size=1G")
    assert told(ansible.play(kvm(ansible, "disks", state="absent"))) == ["changed"]


def test_network_cards(ansible: Ansible) -> None:
    def nic(state: str = "present", **values: object) -> Task:
        return "proxmox_nic", {"name": "nics", "interface": "net1", "state": state, **values}

    card = {"bridge": ansible.host.bridge, "model": "e1000", "mac": "BC:24:11:00:00:01", "rate": 2.5, "link_down": True}
    queues = {"bridge": ansible.host.bridge, "model": "virtio", "mtu": 1400, "queues": 2, "firewall": True}
    made, *results = ansible.play(
        kvm(ansible, "nics", memory=64, net={"net0": f"virtio,bridge={ansible.host.bridge}"}),
        nic(**card),
        nic(**card),
        nic(**queues),
        nic(**queues),
        nic("absent"),
        nic("absent"),
        kvm(ansible, "nics", state="started"),
        nic(**queues),
        nic(**queues),
        kvm(ansible, "nics", state="stopped", force=True, timeout=1),
        kvm(ansible, "nics", state="absent"),
    )
    assert not made["failed"], made["msg"]
    assert told(results) == [
        "changed", "unchanged", "changed", "unchanged",
        "changed", "unchanged",
        "changed",
        "changed", "unchanged",
        "changed", "changed",
    ]  # fmt: skip
