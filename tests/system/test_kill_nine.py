"""kill -9 of the daemon in the middle of creating a container, at many points of it.

After each kill a new daemon must answer, running guests must have gone on, the interrupted task must have ended,
and nothing half made may be left: neither a record, nor a volume, nor a mount, nor a lock. A second try works.
"""

import time
from pathlib import Path

import httpx
import pytest

from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

POINTS = 22


def test_create_survives_kill_nine_at_many_points(own_host: Host) -> None:
    host = own_host
    bystander = host.create(start=True, hostname="bystander")
    host.wait_booted(bystander)
    birth = host.execute(bystander, "cat", "/proc/1/stat").split()[21]
    began = time.monotonic()
    warm = host.create(start=True)
    length = time.monotonic() - began
    host.wait(host.delete(host.path(warm), force=1))
    before = _traces(host)
    outcomes = set()
    for point in range(POINTS):
        outcomes.add(_kill_once(host, length * 1.1 * point / POINTS, before, bystander))
    assert host.execute(bystander, "cat", "/proc/1/stat").split()[21] == birth
    # The sweep hit the middle and not only the ends.
    assert "undone" in outcomes
    last = host.create(start=True)
    assert host.wait_booted(last) == "running"


def _kill_once(host: Host, delay: float, before: set[str], bystander: int) -> str:
    vmid = host.new_vmid()
    upid = ""
    try:
        upid = host.post(
            f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=host.template(), unprivileged=1, hostname="victim",
            net0=f"name=eth0,bridge={host.bridge},ip=dhcp", start=1,
        )  # fmt: skip
        time.sleep(delay)
    except httpx.TransportError:
        pass
    host.kill()
    host.start()
    assert host.get(host.path(bystander, "/status/current"))["status"] == "running"
    status = host.get(f"/nodes/{host.node}/tasks/{upid}/status")
    assert status["status"] == "stopped"
    rows = {row["vmid"]: row for row in host.get(f"/nodes/{host.node}/lxc")}
    if vmid in rows:
        # Creation had been completed; whether the task still had to start it is all that may differ.
        assert "lock" not in rows[vmid]
        host.wait(host.delete(host.path(vmid), force=1))
        outcome = "completed"
    else:
        assert status["exitstatus"] != "OK"
        outcome = "undone"
    assert _traces(host) == before, f"killed after {delay:.2f} s"
    return outcome


def _traces(host: Host) -> set[str]:
    """Volumes, mounts, interfaces and unfinished files of the host."""
    storage = host.root / "state/storage"
    files = {str(p) for p in storage.glob("*/*") if p.parent.name != "template"}
    files |= {str(p) for p in (storage / "template/cache").glob("*")}
    mounts = {
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(host.root) in line
    }
    links = {
        p.name for p in Path("/sys/class/net").iterdir() if "veth" in p.name and str(host.first_vmid)[:4] in p.name
    }
    return files | mounts | links
