"""A network card of the host's is given to a VM, seen inside, given back; what cannot be given is refused."""

import json
import re
import time
from collections.abc import Iterator

import pytest

from framework.lab import INSIDE, PASSED_MAC, Lab

PYTHON = f"{INSIDE}/.venv/bin/python"
ISO = "/var/lib/bastide/storage/template/iso/nested.iso"
VMID = 900
SERIAL = """
import socket, sys, time
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.settimeout(5)
end, seen = time.monotonic() + float(sys.argv[3]), b""
while time.monotonic() < end and sys.argv[2].encode() not in seen[:seen.rfind(b"\\n") + 1]:
    try:
        seen += link.recv(65536)
    except TimeoutError:
        pass
sys.stdout.write(seen.decode(errors="replace"))
"""


def read(lab: Lab, path: str, *parameters: str) -> object:
    return json.loads(lab.run("bastide", "api", "get", path, *parameters).stdout)


def card(lab: Lab, device: str) -> str:
    """The address of the first function with this device id."""
    rows = read(lab, "/nodes/lab/hardware/pci", "pci-class-blacklist=")
    assert isinstance(rows, list)
    return str(next(row["id"] for row in rows if row["device"] == device))


def driver(lab: Lab, address: str) -> str:
    path = lab.run("readlink", f"/sys/bus/pci/devices/{address}/driver", check=False).stdout
    return path.strip().rpartition("/")[2]


def await_driver(lab: Lab, address: str, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while driver(lab, address) != wanted:
        assert time.monotonic() < deadline, f"{address} is {driver(lab, address)}'s, not {wanted}'s"
        time.sleep(1)


@pytest.fixture(scope="module")
def vm(installed: Lab) -> Iterator[Lab]:
    """A VM that boots the small Linux, with the e1000e card."""
    installed.run("mkdir", "-p", ISO.rpartition("/")[0])
    installed.run(PYTHON, f"{INSIDE}/tests/framework/nested_guest.py", ISO)
    installed.run(
        "bastide", "api", "create", "/nodes/lab/qemu", f"vmid={VMID}", "name=nested", "memory=256", "cores=1",
        "machine=q35", "cpu=max", "ostype=l26", "ide2=local:iso/nested.iso,media=cdrom", "boot=order=ide2",
        "serial0=socket", "vga=serial0", f"hostpci0={card(installed, '0x10d3')},pcie=1", "--wait",
    )  # fmt: skip
    yield installed
    installed.run("bastide", "rm", str(VMID), "--force", "--yes", check=False)


def test_the_card_is_seen_inside_and_given_back(vm: Lab) -> None:
    address = card(vm, "0x10d3")
    assert driver(vm, address) == "e1000e"
    vm.run("bastide", "start", str(VMID))
    assert driver(vm, address) == "vfio-pci"
    said = vm.run(PYTHON, "-c", SERIAL, f"/run/bastide/qemu/{VMID}/serial0.sock", "NIC ", "1500", seconds=1600).stdout
    told = re.search(r"NIC (\S+) (\S+) (\S+)", said)
    assert told is not None, said[-2000:]
    assert (told[1], told[2]) == (PASSED_MAC, "e1000e")
    assert told[3].startswith("10.0.2."), "no lease through the card"

    # The daemon dies and comes back: the next one knows what the VM holds.
    vm.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "bastide")
    deadline = time.monotonic() + 120
    while vm.run("bastide", "ls", check=False).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert driver(vm, address) == "vfio-pci"

    vm.run("bastide", "stop", str(VMID))
    await_driver(vm, address, "e1000e")
    group = vm.run("readlink", f"/sys/bus/pci/devices/{address}/iommu_group").stdout.strip().rpartition("/")[2]
    assert vm.run("test", "-e", f"/dev/vfio/{group}", check=False).returncode == 1


@pytest.mark.parametrize(
    ("device", "why"),
    [("0x2922", r"IOMMU group \d+ of \S+ is shared with .*1f\.0"), ("0x1001", "in use by this host: its disk vda")],
)
def test_what_cannot_be_given_is_refused(vm: Lab, device: str, why: str) -> None:
    address = card(vm, device)
    before = driver(vm, address)
    vm.run("bastide", "set", str(VMID), f"hostpci0={address}")
    done = vm.run("bastide", "start", str(VMID), check=False)
    assert done.returncode != 0
    assert re.search(why, done.stdout + done.stderr), done.stdout + done.stderr
    assert driver(vm, address) == before
