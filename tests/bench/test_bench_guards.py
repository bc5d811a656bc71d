"""What the guards of guests' interfaces cost: TCP between two containers with them and without, in turns (iperf3(1)).

It is counted in processor time of the sender, in whose name the kernel does most of a packet's way through a bridge.
The rate says more of what else the machine does. Both are reported.
"""

import json
import resource
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from bench.conftest import Report
from framework.evil import put_template, try_create
from framework.host import Host
from framework.namespaces import sh
from framework.roots import busybox_tar

pytestmark = pytest.mark.bench
ROUNDS, MEBIBYTES = 9, 200


def network_of(host: Host, vmid: int) -> str:
    """What runs a command in a guest's network, after its interface got an address."""
    monitor = int((host.root / f"run/lxc/{vmid}/pid").read_text())
    pid = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()[0]
    return f"nsenter --net=/proc/{pid}/ns/net"


def joined(host: Host) -> tuple[int, str, str]:
    """A running busybox guest, its network and its IPv4 address."""
    number = host.new_vmid()
    gateway = sh(f"ip -4 -o addr show dev {host.bridge}").split()[3].partition("/")[0]
    address = f"{gateway.rpartition('.')[0]}.{100 + number % 100}"
    net = f"name=eth0,bridge={host.bridge},ip={address}/24,ip6=auto"
    vmid, told = try_create(host, put_template(host, "small", busybox_tar()), net0=net)
    assert vmid is not None, told
    host.act(vmid, "start")
    inside = network_of(host, vmid)
    sh(f"{inside} ip link set eth0 up")
    sh(f"{inside} ip addr replace {address}/24 dev eth0")
    return vmid, inside, address


def sent(inside: str, address: str) -> tuple[float, float]:
    """Gbit/s of one TCP connection, and the seconds of processor time that its sender needs for a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*inside.split(), "iperf3", "-J", "-n", f"{MEBIBYTES}M", "-c", address],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_stime + after.ru_utime - before.ru_stime - before.ru_utime
    rate = float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9
    return rate, used * 1000 / MEBIBYTES


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_guards_cost_little(host: Host, report: Report, family: str) -> None:
    (vmid, sender, _), (other, receiver, address) = joined(host), joined(host)
    path = host.path(vmid, "/config"), host.path(other, "/config")
    before = [host.get(each)["net0"] for each in path]
    if family == "IPv6":
        while not (found := sh(f"{receiver} ip -6 -o addr show dev eth0 scope global -tentative").split()):
            time.sleep(0.2)
        address = found[3].partition("/")[0]
    with subprocess.Popen([*receiver.split(), "iperf3", "-s"], stdout=subprocess.DEVNULL) as server:
        time.sleep(0.5)
        ratios, speeds = [], []
        for number in range(ROUNDS):
            pair = {}
            for guarded in ((True, False), (False, True))[number % 2]:
                for place, net in zip(path, before, strict=True):
                    host.put(place, net0=net if guarded else f"{net},firewall=0")
                pair[guarded] = sent(sender, address)
            ratios.append(pair[True][1] / pair[False][1])
            speeds.append(pair)
        server.terminate()
    told = []
    for guarded in (True, False):
        rate, used = (statistics.median(pair[guarded][what] for pair in speeds) for what in (0, 1))
        told.append(f"{used:.2f} s a GB, {rate:.1f} Gbit/s")
    ratio = statistics.median(ratios)
    report.add(
        f"processor time of TCP between two containers, {family}", told[0], f"{told[1]} unguarded",
        f"{ratio:.3f} times (of {ROUNDS} pairs {min(ratios):.2f} to {max(ratios):.2f})", "at most 1.05 times",
        met=ratio <= 1.05,
    )  # fmt: skip
    for guest in (vmid, other):
        host.remove(guest)
    assert ratio < 1.15
