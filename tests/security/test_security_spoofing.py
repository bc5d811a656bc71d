"""A hostile guest on a network: frames that lie about who sends them reach nobody.

Attack class 32 (spoofing of hardware addresses, ARP, IPv4, IPv6, neighbour discovery, routers, DHCP, VLANs) and 33
(rules that are lost or half applied).
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from bastide.network.ports import host_interface
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


def heard(host: Host, three: list[Guest], times: int = TIMES, interface: str = "eth0") -> dict[str, dict[str, int]]:
    """What the victim, a bystander and the host hear of an attack with every lie there is."""
    lies, end = lies_of(host, three), frames.truth(three[0].station)

    def attack() -> None:
        with frames.packet_socket(interface) as mouth:
            for lie in lies.values():
                for _ in range(times):
                    mouth.send(lie)
            mouth.send(end)

    with frames.ears(places(host, three)) as listeners:
        frames.within(three[0].network, attack)
        return listeners.listen(lies, end, 30 * PATIENCE)


def places(host: Host, three: list[Guest]) -> dict[str, tuple[str, str]]:
    """Where somebody listens to the first of three guests."""
    here = frames.network_of(os.getpid())
    guests = {name: (guest.network, "eth0") for name, guest in zip(("victim", "bystander"), three[1:], strict=True)}
    return {**guests, "host": (here, host.bridge)}


NOTHING: dict[str, dict[str, int]] = {"victim": {}, "bystander": {}, "host": {}}


def test_no_lie_reaches_anybody(town: Host, three: list[Guest]) -> None:
    """Without the guards this fails: with `firewall=0` the very same frames arrive."""
    assert heard(town, three) == NOTHING
    path = town.path(three[0].vmid, "/config")
    before = town.get(path)["net0"]
    town.put(path, net0=f"{before},firewall=0")
    arrived = heard(town, three, 2)["victim"]
    # Where bridges hand packets to iptables as well, the kernel keeps fragments until the rest has come.
    assert {lie for lie in lies_of(town, three) if "fragment" not in lie} - set(arrived) == set()
    town.put(path, net0=before)
    assert heard(town, three, 10) == NOTHING


def test_who_does_not_lie_is_heard(town: Host, three: list[Guest]) -> None:
    """Neighbours, the host and its names are reached by IPv4 and IPv6, also from an address of one's own choice."""
    me, other = three[0], three[1].station
    inside = f"nsenter --net={me.network}"
    sh(f"{inside} ip addr replace {chosen(me)}/64 dev eth0")
    for target in (other.ipv4, other.ipv6, gateway_of(town).ipv4, gateway_of(town).ipv6):
        assert " bytes from " in sh(f"{inside} busybox ping -c 3 -A -W 5 {target}", check=False), target
    deadline = time.monotonic() + 30 * PATIENCE
    asked = f"{inside} busybox ping -c 3 -A -W 1 -I {chosen(me)} {other.ipv6}"
    while " bytes from " not in sh(asked, check=False):
        assert time.monotonic() < deadline, "an address of its own choice cannot be used"
    name = town.get(town.path(three[1].vmid, "/config"))["hostname"]
    assert str(other.ipv4) in sh(f"{inside} busybox nslookup {name} {gateway_of(town).ipv4}", check=False)


def chosen(guest: Guest) -> IPv6Address:
    """An address of the bridge's network that a guest makes up."""
    return IPv6Address(int(guest.station.ipv6) >> 64 << 64 | 0xABCD_0123_4567_89AB)


def test_guards_outlive_the_daemon_and_changes(town: Host, three: list[Guest]) -> None:
    """Without rules that stay in the kernel, or without telling the next daemon of them, this fails."""
    town.kill()
    assert heard(town, three, 20) == NOTHING
    town.start()
    assert heard(town, three, 20) == NOTHING
    path = town.path(three[0].vmid, "/config")
    town.put(path, hostname="renamed")
    town.put(path, net1=f"name=eth1,bridge={town.bridge},ip=manual,hwaddr=02:00:00:AA:BB:CC")
    sh(f"nsenter --net={three[0].network} ip link set eth1 up")
    card = replace(three[0].station, hwaddr=bytes.fromhex("020000aabbcc"))
    lies = frames.lies(card, three[1].station, gateway_of(town))
    assert not flooded(town, three, lies, "eth1")
    assert heard(town, three, 20) == NOTHING
    town.put(path, delete="net1")
    assert heard(town, three, 20) == NOTHING


def flooded(host: Host, three: list[Guest], lies: dict[str, bytes], interface: str) -> dict[str, int]:
    """Which lies from another interface of the attacker's the victim hears, up to a true word from its first one."""

    def attack() -> None:
        with frames.packet_socket(interface) as mouth, frames.packet_socket("eth0") as first:
            for lie in lies.values():
                for _ in range(20):
                    mouth.send(lie)
            first.send(end)

    end = frames.truth(three[0].station)
    with frames.ears(places(host, three)) as listeners:
        frames.within(three[0].network, attack)
        return listeners.listen(lies, end, 30 * PATIENCE)["victim"]


def test_the_first_frame_is_guarded(town: Host, three: list[Guest]) -> None:
    """A guest lies from the moment it has a network on. Without rules that are there before its port, this fails."""
    vmid = small(town)
    hwaddr = town.get(town.path(vmid, "/config"))["net0"].partition("hwaddr=")[2].partition(",")[0]
    mine = replace(three[0].station, hwaddr=bytes.fromhex(hwaddr.replace(":", "")))
    lies = frames.lies(mine, three[1].station, gateway_of(town))
    times: list[float] = []

    def attack(space: str) -> None:
        sh(f"nsenter --net={space} ip link set eth0 up")
        with frames.packet_socket("eth0") as mouth:
            while not times or time.monotonic() - times[0] < 0.5:
                for lie in lies.values():
                    with suppress(OSError):  # the other end is not up yet
                        mouth.send(lie)
                        times.append(time.monotonic())

    with frames.ears(places(town, three)) as listeners, ThreadPoolExecutor(1) as pool:
        starting = pool.submit(town.act, vmid, "start")
        frames.within(space_of(town, vmid), partial(attack, space_of(town, vmid)))
        starting.result()
        end = frames.truth(three[0].station)
        frames.within(three[0].network, partial(say, end))
        assert listeners.listen(lies, end, 30 * PATIENCE) == NOTHING
    assert len(times) > 1000
    table = Layout(town.root).instance
    port = host_interface(Layout(town.root), vmid, 0)
    assert port in sh(f"nft list table bridge {table}")
    town.remove(vmid)
    assert port not in sh(f"nft list table bridge {table}")


def say(frame: bytes) -> None:
    """Send one frame."""
    with frames.packet_socket("eth0") as mouth:
        mouth.send(frame)


def space_of(host: Host, vmid: int) -> str:
    """The network of a guest that is starting, as soon as there is one with an interface in it."""
    deadline = time.monotonic() + 30 * PATIENCE
    mine = os.stat("/proc/self/ns/net").st_ino
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, IndexError):
            monitor = int((host.root / f"run/lxc/{vmid}/pid").read_text())
            child = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()[0]
            space = frames.network_of(int(child))
            if os.stat(space).st_ino != mine and "eth0" in sh(f"nsenter --net={space} ip -o link", check=False):
                return space
    raise AssertionError("the guest has no network")
