"""A hostile guest on a network: frames that lie about who sends them reach nobody.

Attack class 32 (spoofing of hardware addresses, ARP, IPv4, IPv6, neighbour discovery, routers, DHCP, VLANs) and 33
(rules that are lost or half applied).
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from framework import frames
from framework.evil import put_template, try_create
from framework.frames import Station
from framework.host import Host
from framework.namespaces import sh
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = pytest.mark.system
TIMES = 1000


@dataclass
class Guest:
    """A running busybox guest, its network, and who it is there."""

    vmid: int
    network: str
    station: Station


def guest_of(host: Host, vmid: int) -> Guest:
    """A running guest with the addresses that it gets by DHCP and router advertisements."""
    monitor = int((host.root / f"run/lxc/{vmid}/pid").read_text())
    pid = int(Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()[0])
    inside = f"nsenter -t {pid} -n"
    sh(f"{inside} ip link set eth0 up")
    words = sh(f"{inside} busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s /bin/true 2>&1", check=False)
    config = host.get(host.path(vmid, "/config"))["net0"]
    hwaddr = next(part.partition("=")[2] for part in config.split(",") if part.startswith("hwaddr="))
    address = next(
        row for row in (host.root / "state/network/leases").read_text().splitlines() if hwaddr.lower() in row
    )
    ipv4 = IPv4Address(address.split()[2])
    sh(f"{inside} ip addr replace {ipv4}/24 dev eth0")
    deadline = time.monotonic() + 30 * PATIENCE
    while not (found := global6(inside)):
        assert time.monotonic() < deadline, f"no IPv6 address: {words}"
        time.sleep(0.05)
    return Guest(
        vmid, frames.network_of(pid), Station(bytes.fromhex(hwaddr.replace(":", "")), ipv4, found[0], found[1])
    )


def global6(inside: str) -> tuple[IPv6Address, IPv6Address] | None:
    """The global and the link-local address that can be used already."""
    found = {
        scope: sh(f"{inside} ip -6 -o addr show dev eth0 scope {scope} -tentative").split()
        for scope in ("global", "link")
    }
    if not all(found.values()):
        return None
    return tuple(IPv6Address(words[3].partition("/")[0]) for words in found.values())  # type: ignore[return-value]


def small(host: Host, net: str = "ip=dhcp,ip6=auto") -> int:
    """A busybox guest that has not been started."""
    template = put_template(host, "small", busybox_tar())
    vmid, told = try_create(host, template, net0=f"name=eth0,bridge={host.bridge},{net}")
    assert vmid is not None, told
    return vmid


@pytest.fixture(scope="module")
def town() -> Iterator[Host]:
    """A host of this file's own, which is killed."""
    with Host.launched(number=6) as launched:
        yield launched


@pytest.fixture(scope="module")
def three(town: Host) -> list[Guest]:
    """The attacker, its victim, and a bystander."""
    vmids = [small(town) for _ in range(3)]
    for vmid in vmids:
        town.act(vmid, "start")
    return [guest_of(town, vmid) for vmid in vmids]


def gateway_of(host: Host) -> Station:
    """The bridge as its guests see it."""
    hwaddr = Path(f"/sys/class/net/{host.bridge}/address").read_text().strip()
    four = sh(f"ip -4 -o addr show dev {host.bridge}").split()[3].partition("/")[0]
    six = [line.split()[3].partition("/")[0] for line in sh(f"ip -6 -o addr show dev {host.bridge}").splitlines()]
    local, wide = sorted(map(IPv6Address, six), key=lambda address: not address.is_link_local)
    return Station(bytes.fromhex(hwaddr.replace(":", "")), IPv4Address(four), wide, local)


def lies_of(host: Host, three: list[Guest]) -> dict[str, bytes]:
    """Every lie that the first of three guests can tell the second."""
    return frames.lies(three[0].station, three[1].station, gateway_of(host))


def heard(host: Host, three: list[Guest], times: int = TIMES) -> dict[str, dict[str, int]]:
    """What the victim, a bystander and the host hear of an attack with every lie there is."""
    attacker, victim, bystander = three
    places = {
        "victim": (victim.network, "eth0"),
        "bystander": (bystander.network, "eth0"),
        "host": (frames.network_of(os.getpid()), host.bridge),
    }
    lies = lies_of(host, three)
    end = frames.truth(attacker.station)

    def attack() -> None:
        with frames.packet_socket("eth0") as mouth:
            for lie in lies.values():
                for _ in range(times):
                    mouth.send(lie)
            mouth.send(end)

    with frames.ears(places) as listeners:
        frames.within(attacker.network, attack)
        return listeners.listen(lies, end, 30 * PATIENCE)


def test_no_lie_reaches_anybody(town: Host, three: list[Guest]) -> None:
    """Without the guards this fails: with `firewall=0` the very same frames arrive."""
    assert heard(town, three) == {"victim": {}, "bystander": {}, "host": {}}
    attacker = three[0].vmid
    before = town.get(town.path(attacker, "/config"))["net0"]
    town.put(town.path(attacker, "/config"), net0=f"{before},firewall=0")
    arrived = heard(town, three, 2)["victim"]
    # Where bridges hand packets to iptables as well, the kernel keeps fragments until the rest has come.
    assert {lie for lie in lies_of(town, three) if "fragment" not in lie} - set(arrived) == set()
    town.put(town.path(attacker, "/config"), net0=before)
    assert heard(town, three, 10) == {"victim": {}, "bystander": {}, "host": {}}
