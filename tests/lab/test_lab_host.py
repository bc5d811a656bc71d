"""Bastide from its package on a host with systemd, control groups version 2 and AppArmor."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from framework.lab import INSIDE, Lab

PYTEST = ("env", "TEST_PATIENCE=10", f"{INSIDE}/.venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


def bastide(lab: Lab, *argv: str) -> Any:
    """Run the installed program; what it prints as JSON."""
    done = lab.run("bastide", *argv, "--json")
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def container(stocked: Lab) -> Iterator[int]:
    """A Debian container that has booted."""
    stocked.run("bastide", "launch", "debian-12", "web", seconds=1200)
    vmid = next(row["vmid"] for row in bastide(stocked, "ls") if row["name"] == "web")
    yield int(vmid)
    stocked.run("bastide", "rm", str(vmid), "--force", "--yes", check=False)


def test_doctor_finds_what_the_lab_has(installed: Lab) -> None:
    checks = {row["name"]: row for row in bastide(installed, "doctor")}
    assert [row for row in checks.values() if row["ok"] == "fail"] == []
    assert "v2" in checks["cgroups"]["message"]
    for name in ("apparmor", "seccomp", "iommu", "qemu", "ovmf", "swtpm", "vhost_net", "daemon"):
        assert checks[name]["ok"] == "ok", checks[name]


def test_the_unit_delegates_and_outlives_its_daemon(installed: Lab) -> None:
    shown = installed.run("systemctl", "show", "bastide", "-p", "Delegate,KillMode,SubState,NRestarts").stdout
    assert {"Delegate=yes", "KillMode=process", "SubState=running", "NRestarts=0"} <= set(shown.splitlines())


def test_hardware_is_told(installed: Lab) -> None:
    rows = json.loads(installed.run("bastide", "api", "get", "/nodes/lab/hardware/pci").stdout)
    card = next(row for row in rows if row["device"] == "0x10d3")
    assert card["vendor_name"] == "Intel Corporation"
    assert card["iommugroup"] >= 0
    assert [row for row in rows if row["iommugroup"] == card["iommugroup"]] == [card]


def test_a_container_is_confined(stocked: Lab, container: int) -> None:
    pid = first_process(stocked, container)
    assert "bastide" in stocked.run("cat", f"/proc/{pid}/attr/current").stdout
    assert "(enforce)" in stocked.run("cat", f"/proc/{pid}/attr/current").stdout
    groups = stocked.run("cat", f"/proc/{pid}/cgroup").stdout.splitlines()
    assert len(groups) == 1, groups
    assert groups[0].startswith("0::/")
    assert stocked.run("cat", f"/proc/{pid}/uid_map").stdout.split()[1] != "0"
    state = stocked.run("bastide", "exec", "web", "--", "systemctl", "is-system-running", "--wait", check=False).stdout
    assert state.strip() in ("running", "degraded")


def test_limits_are_the_kernels(stocked: Lab, container: int) -> None:
    pid = first_process(stocked, container)
    stocked.run("bastide", "set", "web", "memory=300")
    group = stocked.run("cat", f"/proc/{pid}/cgroup").stdout.strip().removeprefix("0::").split("/init.scope")[0]
    limits = [
        stocked.run("cat", f"/sys/fs/cgroup{'/'.join(group.split('/')[:depth])}/memory.max", check=False).stdout.strip()
        for depth in range(2, len(group.split("/")) + 1)
    ]
    assert str(300 << 20) in limits, (group, limits)


def test_a_restart_of_the_daemon_loses_no_guest(stocked: Lab, container: int) -> None:
    before = first_process(stocked, container)
    stocked.run("systemctl", "restart", "bastide")
    assert first_process(stocked, container) == before
    stocked.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "bastide")
    await_daemon(stocked)
    assert first_process(stocked, container) == before
    assert stocked.run("bastide", "exec", "web", "--", "echo", "still here").stdout == "still here\n"
    assert "NRestarts=1" in stocked.run("systemctl", "show", "bastide", "-p", "NRestarts").stdout


@pytest.mark.parametrize("suite", ["tests/system/test_lxc_engine.py", "tests/system/test_container_life.py"])
def test_the_system_tests_pass_here(stocked: Lab, suite: str) -> None:
    done = stocked.run(*PYTEST, "-o", "timeout=3000", suite, cwd=INSIDE, seconds=3300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_removing_the_package_leaves_guests_data(stocked: Lab, container: int) -> None:
    stocked.run("dpkg", "--remove", "bastide")
    assert stocked.run("systemctl", "is-active", "bastide", check=False).stdout.strip() == "inactive"
    assert stocked.run("ls", "/usr/lib/bastide", check=False).returncode != 0
    assert stocked.run("ls", "/var/lib/bastide").stdout.split()
    stocked.run("dpkg", "--install", "/root/bastide.deb")
    stocked.run("systemctl", "enable", "--now", "bastide")
    assert [row["name"] for row in bastide(stocked, "ls")] == ["web"]


def first_process(lab: Lab, vmid: int) -> int:
    """The container's init."""
    return int(json.loads(lab.run("bastide", "api", "get", f"/nodes/lab/lxc/{vmid}/status/current").stdout)["pid"])


def await_daemon(lab: Lab) -> None:
    """Wait until systemd has started it again and it answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if lab.run("bastide", "ls", check=False).returncode == 0:
            return
        time.sleep(1)
    raise AssertionError("the daemon did not come back")
