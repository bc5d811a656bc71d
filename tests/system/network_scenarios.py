"""What `test_network.py` runs as the host of a lab (see `framework.namespaces`)."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.host import links, sysctl
from bastide.model.container import NetworkInterface
from bastide.network import forwarding
from bastide.network.bridge import NatNetwork
from framework.namespaces import WORLD4, WORLD6, Lab, sh

_MADE: list[NatNetwork] = []


def network_in(folder: str, bridge: str = "bstt0", number: int = 5) -> NatNetwork:
    ipv4 = IPv4Interface(f"10.77.{number}.1/24")
    ipv6 = IPv6Interface(f"fd12:3456:{number:x}::1/64")
    _MADE.append(NatNetwork(Layout(Path(folder)), bridge, ipv4, ipv6))
    return _MADE[-1]


async def run(scenario: str, tag: str, folder: str) -> None:
    """Run a scenario; nothing of it stays, however it ends."""
    async with purged():
        await globals()[scenario](tag, folder)


@asynccontextmanager
async def purged() -> AsyncIterator[None]:
    """Remove every network that was made, at the end."""
    try:
        yield
    finally:
        for network in _MADE:
            await network.stop(purge=True)


def nic(number: int, bridge: str = "bstt0", **options: object) -> NetworkInterface:
    values = {"name": "eth0", "bridge": bridge, "hwaddr": f"02:00:00:00:00:{number:02X}", "ip": "dhcp", **options}
    return NetworkInterface.model_validate(values)


async def plug(network: NatNetwork, lab: Lab, vmid: int, name: str, card: NetworkInterface) -> str:
    """A guest as an engine starts it: registered, its host end made, connected. Returns its namespace."""
    await network.register(vmid, name, {0: card})
    guest = lab.guest(f"g{vmid}", network.host_interface(vmid, 0), str(card.hwaddr))
    await network.connect(vmid, 0, card)
    return guest


def settings() -> dict[str, str]:
    """Every setting of the namespace's network but those of interfaces that come and go with a test."""
    found = {}
    passing = re.compile(r"bstt|v[0-9a-f]{4}-|tcp_fastopen_key|/nf_conntrack|/netfilter/")
    for path in Path("/proc/sys/net").rglob("*"):
        if path.is_file() and not passing.search(str(path)):
            try:
                found[str(path)] = path.read_text()
            except OSError:
                continue
    return found


def trace(folder: str) -> dict[str, object]:
    """All that a network could leave behind."""
    own = (f"{Layout(Path(folder)).instance}-network", forwarding._record().name)
    return {
        "settings": settings(),
        "rules": sh("nft list ruleset"),
        "links": sorted(links.names()),
        "run": sorted(name for name in os.listdir("/run") if name in own),
    }


async def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.05)


def resolves(lab: Lab, where: str, name: str, server: str = "10.77.5.1") -> str:
    return lab.inside(where, f"busybox nslookup {name} {server}", check=False)


async def guests_and_the_world(tag: str, folder: str) -> None:
    """Addresses, names, the way out, and that nothing new comes in."""
    lab, network = Lab(tag), network_in(folder)
    vpn = lab.add("v")
    sh("ip link add vpn0 type veth peer name eth0 netns " + vpn)
    sh("ip addr add 172.31.0.1/24 dev vpn0")
    sh("ip link set vpn0 up")
    lab.inside(vpn, "ip addr add 172.31.0.2/24 dev eth0")
    lab.inside(vpn, "ip link set eth0 up")
    lab.inside(vpn, "ip route add default via 172.31.0.1")
    lab.inside(lab.world, "ip route add 172.31.0.0/24 via 198.51.100.2")
    lab.inside(lab.world, "ip route add 10.77.5.0/24 via 198.51.100.2")
    lab.inside(lab.world, "ip -6 route add fd12:3456:5::/64 via 2001:db8:1::2")
    before = trace(folder)
    await network.start()
    first = await plug(network, lab, 100, "Web.example.org", nic(1))
    begin = time.monotonic()
    address = lab.dhcp(first)
    print(f"dhcp {1000 * (time.monotonic() - begin):.0f} ms")
    assert await network.lease(nic(1).hwaddr or "") == address
    second = await plug(network, lab, 101, "db", nic(2, ip="10.77.5.20/24"))
    lab.inside(second, "ip addr add 10.77.5.20/24 dev eth0")
    lab.inside(second, "ip route add default via 10.77.5.1")
    assert address in resolves(lab, second, "web")
    assert "10.77.5.20" in resolves(lab, first, "db")
    assert "10.77.5.20" in resolves(lab, lab.host, f"db.{Layout(Path(folder)).instance}")
    assert lab.reaches(first, WORLD4)
    assert lab.reaches(first, "10.77.5.20")
    assert lab.reaches(first, "172.31.0.2")
    await until(lambda: "fd12:3456:5:" in lab.inside(first, "ip -6 addr show dev eth0 scope global -tentative"))
    await until(lambda: "default" in lab.inside(first, "ip -6 route"))
    assert lab.reaches(first, WORLD6)
    guest6 = re.search(r"fd12:3456:5:\S+(?=/)", lab.inside(first, "ip -6 addr show dev eth0"))
    assert guest6
    for stranger, target in ((lab.world, address), (lab.world, "172.31.0.2"), (vpn, WORLD4), (lab.world, guest6[0])):
        assert not lab.reaches(stranger, target), f"{stranger} reaches {target}"
    assert lab.reaches(lab.host, address)
    await network.forget(100)
    await until(lambda: address not in resolves(lab, second, "web"))
    assert await network.lease(nic(1).hwaddr or "") is None
    for guest in (first, second):
        sh(f"ip netns del {guest}")
    await network.stop(purge=True)
    after = trace(folder)
    assert after == before, {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not list(Path(folder).rglob("*lease*"))


async def names_cannot_be_taken(tag: str, folder: str) -> None:
    """A guest that calls itself what another is called, or uses the same client id, gets neither name nor address."""
    lab, network = Lab(tag), network_in(folder)
    await network.start()
    victim = await plug(network, lab, 100, "web", nic(1))
    thief = await plug(network, lab, 101, "web", nic(2))
    stranger = await plug(network, lab, 102, "other", nic(3))
    same = ("-x", "0x3d:ff00000001", "-x", "hostname:web", "-F", "web")
    addresses = [lab.dhcp(guest, *same) for guest in (thief, stranger, victim)]
    assert len(set(addresses)) == 3
    answer = resolves(lab, stranger, "web")
    assert addresses[2] in answer
    assert addresses[0] not in answer
    assert addresses[1] not in answer
    assert addresses[0] in resolves(lab, stranger, "web-101")
    await network.register(102, "renamed", {0: nic(3)})
    await until(lambda: addresses[1] in (lab.dhcp(stranger), resolves(lab, victim, "renamed"))[1])
    await network.stop(purge=True)


async def repairs_itself(tag: str, folder: str) -> None:
    """Whatever is killed or removed comes back, while the daemon runs and at its next start."""
    lab, network = Lab(tag), network_in(folder)
    table = f"inet {Layout(Path(folder)).instance}"
    await network.start()
    guest = await plug(network, lab, 100, "web", nic(1))
    address = lab.dhcp(guest)
    pid_file = Path(f"/run/{Layout(Path(folder)).instance}-network/dnsmasq.pid")
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid_file.exists() and int(pid_file.read_text() or 0) not in (0, pid))
    assert address in resolves(lab, guest, "web")
    sh(f"nft delete table {table}")
    await until(lambda: "masquerade" in sh(f"nft list table {table}", check=False))
    sysctl.write("net/ipv4/conf/up0/forwarding", "0")
    sh("ip route replace default via 198.51.100.1")  # as a DHCP client does when its lease begins anew
    sh("ip route add 192.0.2.0/24 via 198.51.100.1")
    await until(lambda: sysctl.read("net/ipv4/conf/up0/forwarding") == "1")
    assert lab.reaches(guest, WORLD4)
    sh("ip link del bstt0")
    await until(lambda: links.exists("bstt0") and "10.77.5.1" in sh("ip addr show dev bstt0"))
    await network.connect(100, 0, nic(1))
    await until(lambda: lab.reaches(guest, "10.77.5.1"))
    await asyncio.sleep(2)
    assert lab.dhcp(guest) == address
    await network.stop(purge=False)
    assert lab.reaches(guest, WORLD4)
    pid = int(pid_file.read_text())
    again = network_in(folder)
    begin = time.monotonic()
    await again.start()
    print(f"start again {1000 * (time.monotonic() - begin):.0f} ms")
    assert int(pid_file.read_text()) == pid
    assert address in resolves(lab, guest, "web")
    await again.stop(purge=True)


async def several_on_one_machine(tag: str, folder: str) -> None:
    """Two instances: the first to leave takes nothing from the other; the last one sets the settings back."""
    lab = Lab(tag)
    before = settings()
    one, two = network_in(f"{folder}/one", "bstt1", 6), network_in(f"{folder}/two", "bstt2", 7)
    await one.start()
    await two.start()
    guest = await plug(two, lab, 100, "web", nic(1, "bstt2"))
    other = await plug(one, lab, 101, "web", nic(2, "bstt1"))
    address, other_address = lab.dhcp(guest), lab.dhcp(other)
    assert address in resolves(lab, guest, "web", "10.77.7.1")
    assert other_address in resolves(lab, other, "web", "10.77.6.1")
    await one.stop(purge=True)
    assert lab.reaches(guest, WORLD4)
    assert not lab.reaches(lab.world, "10.77.7.1") or sysctl.read(forwarding.ALL4) == "0"
    sh(f"ip netns del {guest}")
    await two.stop(purge=True)
    changed = {key: value for key, value in settings().items() if before.get(key, value) != value}
    assert not changed


async def ipv6_of_an_older_kernel(tag: str, folder: str) -> None:
    """Without `force_forwarding` the host-wide switch is used, and every interface stays what it was."""
    known = sysctl.exists

    def older(key: str) -> bool:
        return "force_forwarding" not in key and known(key)

    sysctl.exists = older  # type: ignore[assignment]
    lab, network = Lab(tag), network_in(folder)
    sysctl.write("net/ipv6/conf/up0/accept_ra", "1")
    before = settings()
    await network.start()
    changed = {key for key, value in settings().items() if before.get(key, value) != value}
    assert sorted(changed) == ["/proc/sys/net/ipv4/conf/up0/forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"]
    guest = await plug(network, lab, 100, "web", nic(1))
    await until(lambda: "default" in lab.inside(guest, "ip -6 route"))
    await until(lambda: lab.reaches(guest, WORLD6))
    await network.start()
    assert json.loads(forwarding._record().read_text())[forwarding.ALL6]["holders"] == ["bstt0"]
    await network.stop(purge=True)
    changed = {key for key, value in settings().items() if before.get(key, value) != value}
    assert not changed


async def rates(tag: str, folder: str) -> None:
    """Both directions keep to the limit, and it can be lifted."""
    lab, network = Lab(tag), network_in(folder)
    await network.start()
    guest = await plug(network, lab, 100, "web", nic(1, rate=4))
    lab.dhcp(guest)
    for receiver, sender, address in ((lab.host, guest, "10.77.5.1"), (guest, lab.host, sh_address(lab, guest))):
        speed = await throughput(receiver, sender, address, 16)
        print(f"rate 4 MiB/s: {speed:.2f}")
        assert 2.4 < speed < 5, speed
    await network.connect(100, 0, nic(1, rate=8))
    await network.connect(100, 0, nic(1))
    assert "tbf" not in sh(f"tc qdisc show dev {network.host_interface(100, 0)}")
    assert "limit" not in sh("nft list ruleset netdev")
    speed = await throughput(lab.host, guest, "10.77.5.1", 64)
    assert speed > 10, speed
    await network.connect(100, 0, nic(1, rate=1))
    sh(f"ip netns del {guest}")
    await until(lambda: "limit" not in sh("nft list ruleset netdev"))
    await network.stop(purge=True)


def sh_address(lab: Lab, guest: str) -> str:
    found = re.search(r"inet (\S+)/", lab.inside(guest, "ip -4 addr show dev eth0"))
    assert found
    return found[1]


async def throughput(receiver: str, sender: str, address: str, mebibytes: int) -> float:
    """MiB a second of the second half of a TCP transfer between namespaces, when no burst is left."""
    listener = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", receiver, "busybox", "nc", "-l", "-p", "5001",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await asyncio.sleep(0.3)
    source = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", sender, "busybox", "nc", address, "5001", stdin=asyncio.subprocess.PIPE
    )
    assert listener.stdout
    sending = asyncio.create_task(source.communicate(bytes(mebibytes * 2**20)))
    got, begin, earlier = 0, 0.0, 0
    while got < mebibytes * 2**20 and (chunk := await listener.stdout.read(1 << 16)):
        got += len(chunk)
        if not begin and got >= mebibytes * 2**19:
            begin, earlier = time.monotonic(), got
    seconds = time.monotonic() - begin
    for process in (source, listener):
        if process.returncode is None:
            process.kill()
    await asyncio.gather(sending, listener.wait())
    return (got - earlier) / 2**20 / seconds


async def bridges_of_the_user(tag: str, folder: str) -> None:
    """A bridge that is there serves guests as it is, is never taken for ours, and never removed."""
    lab, network = Lab(tag), network_in(folder)
    sh("ip link add bstt0 type bridge")
    sh("ip link set bstt0 up")
    with pytest.raises(HostFailure, match="bstt0"):
        await network.start()
    await network.stop(purge=True)
    assert links.is_bridge("bstt0")
    sh("ip link set bstt0 name usersbr")
    await network.start()
    card = nic(1, "usersbr", ip="manual", mtu=1400, link_down=True)
    await network.check(card)
    guest = await plug(network, lab, 100, "web", card)
    end = network.host_interface(100, 0)
    assert links.bridge_of(end) == "usersbr"
    assert links.mtu(end) == 1400
    assert "NO-CARRIER" in lab.inside(guest, "ip link show dev eth0")
    await network.connect(100, 0, nic(1, link_down=False))
    assert links.bridge_of(end) == "bstt0"
    assert "NO-CARRIER" not in lab.inside(guest, "ip link show dev eth0")
    sh("nft add table inet other")
    sh("nft add chain inet other stop { type filter hook forward priority 0 ; policy drop ; }")
    assert any("inet other stop" in problem for problem in await network.problems())
    await network.stop(purge=True)
    assert links.is_bridge("usersbr")
