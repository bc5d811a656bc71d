"""A client nobody here wrote: fence_pve, by which a cluster turns off a guest that it has lost."""

import time
from collections.abc import Iterator

import pytest

from framework.clients import Login, fence
from framework.host import Host

pytestmark = pytest.mark.system

OFF = 2  # the exit code of `status` for a guest that is off


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.launched(number=10) as host:
        yield host


@pytest.fixture(scope="module")
def login(host: Host) -> Login:
    return Login.make(host)


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_is_turned_on_and_off(host: Host, login: Login, kind: str) -> None:
    vmid = host.create_vm(memory=32) if kind == "qemu" else host.create(memory=128)
    for action, code, said, state in (
        ("status", OFF, "Status: OFF", "stopped"),
        ("on", 0, "Success: Powered ON", "running"),
        ("on", 0, "Success: Already ON", "running"),
        ("status", 0, "Status: ON", "running"),
        ("monitor", 0, "", "running"),
        ("reboot", 0, "Success: Rebooted", "running"),
        ("off", 0, "Success: Powered OFF", "stopped"),
        ("off", 0, "Success: Already OFF", "stopped"),
    ):
        done = fence(host, login, action, vmid, vmtype=kind)
        assert (done.returncode, done.stdout.strip()) == (code, said), f"{action}: {done.stderr}"
        assert host.get(host.path(vmid, "/status/current"))["status"] == state, action


def test_a_vm_is_reset_and_found_on_its_node(host: Host, login: Login) -> None:
    vmid = host.create_vm(memory=32, start=True)
    before = host.get(host.path(vmid, "/status/current"))
    done = fence(host, login, "reboot", vmid, method="cycle")
    assert (done.returncode, done.stdout.strip()) == (0, "Success: Rebooted"), done.stderr
    # The agent does not wait: QEMU is the same, the task is there.
    deadline = time.monotonic() + 20
    while "qmreset" not in [row["type"] for row in host.get(f"/nodes/{host.node}/tasks", vmid=vmid)]:
        assert time.monotonic() < deadline, "no reset"
        time.sleep(0.1)
    assert host.get(host.path(vmid, "/status/current"))["pid"] == before["pid"]
    done = fence(host, login, "status", vmid, pve_node="", pve_node_auto=1)
    assert (done.returncode, done.stdout.strip()) == (0, "Status: ON"), done.stderr


def test_what_is_not_there_is_not_taken_for_off(host: Host, login: Login) -> None:
    container = host.create()
    for vmid, kind in ((host.new_vmid(), "qemu"), (container, "qemu")):
        done = fence(host, login, "off", vmid, vmtype=kind)
        assert done.returncode not in (0, OFF), done.stdout
        assert "plug is not available" in done.stderr
    wrong = fence(host, Login("wrong", ""), "status", container, vmtype="lxc")
    assert (wrong.returncode, "Unable to connect/login" in wrong.stderr) == (1, True)


def test_the_list_has_the_agents_own_fault(host: Host, login: Login) -> None:
    """It joins the vmid, a number as with Proxmox VE, and text."""
    done = fence(host, login, "list")
    assert "unsupported operand type(s) for +: 'int' and 'str'" in done.stderr
