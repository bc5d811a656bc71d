"""A review of real containers: what the kernel shows of them from outside."""

import time
from typing import Any

import pytest

from framework.host import Host
from framework.patience import PATIENCE

pytestmark = pytest.mark.system

_PUBLIC = "203.0.113.5"
_LISTEN = f"""
use IO::Socket::INET;
open(my $comm, '>', '/proc/self/comm') or die; print $comm 'dockerd'; close $comm;
my $socket = IO::Socket::INET->new(LocalAddr => '{_PUBLIC}', LocalPort => 8443, Listen => 5) or die $!;
sleep 600;
"""


def reviewed(host: Host, vmid: int) -> dict[str, Any]:
    (guest,) = host.get("/architect/review", guest=str(vmid))["guests"]
    return dict(guest)


def ids(guest: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in guest["findings"]}


def test_an_idle_container_is_fine_until_it_exposes_an_engine(host: Host) -> None:
    vmid = host.create(start=True, hostname="shop", cores=1, memory=256, swap=0)
    host.wait_booted(vmid)
    out = host.cli("review", "shop").stdout
    assert "nothing found" in out
    assert "not enough samples" in out
    host.execute(vmid, "ip", "address", "add", f"{_PUBLIC}/32", "dev", "eth0")
    assert ids(reviewed(host, vmid)) == set()  # sshd there is not a container engine
    host.execute(vmid, "sh", "-c", 'setsid perl -e "$1" </dev/null >/dev/null 2>&1 &', "sh", _LISTEN)
    deadline = time.monotonic() + 20 * PATIENCE
    while "ct-engine-exposed" not in ids(found := reviewed(host, vmid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    (finding,) = [one for one in found["findings"] if one["id"] == "ct-engine-exposed"]
    assert finding["severity"] == "risk"
    assert "docker" in finding["finding"]
    assert f"{_PUBLIC}:22" in finding["finding"]
    assert finding["commands"] == ["bastide launch debian-12 shop-vm --vm --cores 1 --memory 1024M --disk 4G"]


def test_processes_killed_for_want_of_memory_are_counted(host: Host) -> None:
    vmid = host.create(start=True, memory=128, swap=0)
    host.wait_booted(vmid)
    assert "memory-too-small" not in ids(reviewed(host, vmid))
    host.execute(vmid, "perl", "-e", '$x = "a" x (300 << 20)', check=False)
    (finding,) = [one for one in reviewed(host, vmid)["findings"] if one["id"] == "memory-too-small"]
    assert "killed for want of memory" in finding["finding"]
    assert finding["commands"] == [f"bastide set ct{vmid} memory=192"]
