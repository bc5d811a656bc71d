"""kill -9 of the daemon in the middle of creating a container or a VM, at many points of it.

After each kill a new daemon must answer, running guests must have gone on, the interrupted task must have ended,
and nothing half made may be left: neither a record, nor a volume, nor a mount, nor a lock. A second try works.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bastide.base.layout import Layout
from bastide.network.ports import host_interface
from framework.groups import groups_of
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

POINTS = 22
VM_POINTS = 12


def test_create_survives_kill_nine_at_many_points(own_host: Host) -> None:
    host = own_host
    bystander = host.create(start=True, hostname="bystander")
    host.wait_booted(bystander)
    birth = host.execute(bystander, "cat", "/proc/1/stat").split()[21]

    def begin(vmid: int) -> str:
        return str(
            host.post(
                f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=host.template(), unprivileged=1, hostname="victim",
                net0=f"name=eth0,bridge={host.bridge},ip=dhcp", start=1,
            )
        )  # fmt: skip

    _sweep(host, "lxc", begin, POINTS, bystander)
    assert host.execute(bystander, "cat", "/proc/1/stat").split()[21] == birth
    last = host.create(start=True)
    assert host.wait_booted(last) == "running"


def test_create_of_a_vm_survives_kill_nine_at_many_points(own_host: Host, tmp_path: Path) -> None:
    host = own_host
    bystander = host.create_vm(start=True, name="bystander")
    pid = host.get(host.path(bystander, "/status/current"))["pid"]
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(32 << 20))

    def begin(vmid: int) -> str:
        return str(
            host.post(
                f"/nodes/{host.node}/qemu", vmid=vmid, name="victim", memory=64, machine="q35", bios="ovmf",
                scsi0=f"local:0,import-from={image},format=qcow2", efidisk0="local:1,efitype=4m",
                tpmstate0="local:1,version=v2.0", ide2="local:cloudinit", net0=f"virtio,bridge={host.bridge}", start=1,
            )
        )  # fmt: skip

    _sweep(host, "qemu", begin, VM_POINTS, bystander)
    assert host.get(host.path(bystander, "/status/current"))["pid"] == pid
    host.wait(begin(host.new_vmid()))


def _sweep(host: Host, kind: str, begin: Callable[[int], str], points: int, bystander: int) -> None:
    """Kill the daemon at points spread over the time that the task takes, and look at what each kill leaves."""
    warm = host.new_vmid()
    began = time.monotonic()
    host.wait(begin(warm))
    length = time.monotonic() - began
    _remove(host, kind, warm)
    before = _traces(host)
    outcomes = [_kill_once(host, kind, begin, length * 1.1 * point / points, bystander) for point in range(points)]
    assert _traces(host) == before
    # The sweep hit the middle and not only the ends.
    assert "undone" in outcomes


def _kill_once(host: Host, kind: str, begin: Callable[[int], str], delay: float, bystander: int) -> str:
    vmid, upid, before = host.new_vmid(), "", _traces(host)
    try:
        upid = begin(vmid)
        time.sleep(delay)
    except httpx.TransportError:
        pass
    host.kill()
    host.start()
    assert host.get(host.path(bystander, "/status/current"))["status"] == "running"
    status = host.get(f"/nodes/{host.node}/tasks/{upid}/status")
    assert status["status"] == "stopped"
    rows = {row["vmid"]: row for row in host.get(f"/nodes/{host.node}/{kind}")}
    if vmid in rows:
        # Creation had been completed; whether the task still had to start it is all that may differ.
        assert "lock" not in rows[vmid]
        _remove(host, kind, vmid)
        outcome = "completed"
    else:
        assert status["exitstatus"] != "OK"
        outcome = "undone"
    assert _traces(host) == before, f"killed after {delay:.2f} s"
    return outcome


def _remove(host: Host, kind: str, vmid: int) -> None:
    path = f"/nodes/{host.node}/{kind}/{vmid}"
    if host.get(f"{path}/status/current")["status"] == "running":
        host.wait(host.post(f"{path}/status/stop"))
    host.wait(host.delete(path))


def _traces(host: Host) -> set[str]:
    """Volumes, mounts, interfaces, control groups and unfinished files of the host."""
    storage = host.root / "state/storage"
    files = {str(p) for p in storage.glob("*/*") if p.parent.name != "template"}
    files |= {str(p) for p in (storage / "template/cache").glob("*")}
    files |= {str(p) for p in (host.root / "run/qemu").glob("*")}
    mounts = {
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(host.root) in line
    }
    own = host_interface(Layout(host.root), 100, 0).partition("-")[0]
    links = {p.name for p in Path("/sys/class/net").iterdir() if p.name.startswith(own)}
    groups = {str(path) for path in groups_of(Layout(host.root).instance, "*") if path.is_dir()}
    return files | mounts | links | groups
