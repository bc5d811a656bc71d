"""kill -9 of the daemon in the middle of creating a container or a VM, at many points of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.host import Host
from framework.sweeps import Act, Sweep

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

POINTS = 22
VM_POINTS = 12


def test_create_survives_kill_nine_at_many_points(own_host: Host) -> None:
    host = own_host
    bystander = host.create(start=True, hostname="bystander")
    host.wait_booted(bystander)
    pid = host.get(host.path(bystander, "/status/current"))["pid"]
    template, vmid = host.template(), host.new_vmid()

    def begin() -> str:
        return str(
            host.post(
                f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, unprivileged=1, hostname="victim",
                net0=f"name=eth0,bridge={host.bridge},ip=dhcp", start=1,
            )
        )  # fmt: skip

    sweep = Sweep(host, lambda: goes_on(host, bystander, pid))
    sweep.over(creation(host, "lxc", vmid, begin), POINTS)
    assert sweep.report() >= POINTS
    last = host.create(start=True)
    assert host.wait_booted(last) == "running"


def test_create_of_a_vm_survives_kill_nine_at_many_points(own_host: Host, tmp_path: Path) -> None:
    host = own_host
    bystander = host.create_vm(start=True, name="bystander")
    pid = host.get(host.path(bystander, "/status/current"))["pid"]
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(32 << 20))
    vmid = host.new_vmid()

    def begin() -> str:
        return str(
            host.post(
                f"/nodes/{host.node}/qemu", vmid=vmid, name="victim", memory=64, machine="q35", bios="ovmf",
                scsi0=f"local:0,import-from={image},format=qcow2", efidisk0="local:1,efitype=4m",
                tpmstate0="local:1,version=v2.0", ide2="local:cloudinit", net0=f"virtio,bridge={host.bridge}", start=1,
            )
        )  # fmt: skip

    sweep = Sweep(host, lambda: goes_on(host, bystander, pid))
    sweep.over(creation(host, "qemu", vmid, begin), VM_POINTS)
    assert sweep.report() >= VM_POINTS


def goes_on(host: Host, vmid: int, pid: int) -> None:
    assert host.get(host.path(vmid, "/status/current"))["pid"] == pid


def creation(host: Host, kind: str, vmid: int, begin: Callable[[], str]) -> Act:
    """The making of a guest; whether the task still had to start it is all that may differ once it is there."""
    path = f"/nodes/{host.node}/{kind}"

    def is_made() -> bool:
        return vmid in {row["vmid"] for row in host.get(path)}

    def remove() -> None:
        if host.get(f"{path}/{vmid}/status/current")["status"] == "running":
            host.wait(host.post(f"{path}/{vmid}/status/stop"))
        host.wait(host.delete(f"{path}/{vmid}"))

    return Act("create", begin, is_made, remove)
