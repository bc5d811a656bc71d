"""What `test_network.py` runs of guards as the host of a lab (see `framework.namespaces`)."""

import asyncio
import os
import subprocess
import threading
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from network_scenarios import network_in, nic, plug, purged, until

from bastide.base.errors import RunError
from bastide.base.layout import Layout
from bastide.host import links, nftables, tap
from framework import frames
from framework.frames import Station
from framework.namespaces import WORLD4, Lab, sh
from framework.patience import PATIENCE

IPV4, IPV6 = IPv4Address("10.77.5.1"), IPv6Address("fd12:3456:5::1")


async def run(scenario: str, tag: str, folder: str) -> None:
    """Run a scenario; nothing of it stays, however it ends."""
    async with purged():
        await globals()[scenario](tag, folder)


def station(number: int, address: str) -> Station:
    """A guest of `nic(number)` with the addresses that follow from it."""
    hwaddr = bytes([2, 0, 0, 0, 0, number])
    local, wide = (IPv6Address(f"{prefix}::ff:fe00:{number:x}") for prefix in ("fe80", "fd12:3456:5"))
    return Station(hwaddr, IPv4Address(address), wide, local)


def gateway() -> Station:
    """The managed bridge, whose link-local address follows from its hardware address."""
    local = sh("ip -6 -o addr show dev bstt0 scope link").split()[3].partition("/")[0]
    return Station(bytes.fromhex(links.hwaddr("bstt0").replace(":", "")), IPV4, IPV6, IPv6Address(local))


def network(name: str) -> str:
    """A namespace as a path."""
    return f"/run/netns/{name}"


def private_packets(lab: Lab, stop: threading.Event) -> tuple[int, int]:
    """How many packets came out of the host until `stop`, and how many of them with a guest's own address."""
    heard, private = 0, 0
    with frames.within(network(lab.world), lambda: frames.packet_socket("w0")) as ear:
        ear.settimeout(0.2)
        while not stop.is_set():
            with suppress(TimeoutError):
                frame = ear.recv(65535)
                heard += frame[12:14] == b"\x08\0"
                private += frame[12:14] == b"\x08\0" and frame[26:29] == IPV4.packed[:3]
    return heard, private


async def many_reloads(tag: str, folder: str) -> None:
    """The same for longer."""
    await reloads(tag, folder, 150)


async def reloads(tag: str, folder: str, rounds: int = 25) -> None:
    """While all rules are loaded again and again, no lie passes and no packet leaves with a guest's own address."""
    lab, nat = Lab(tag), network_in(folder)
    await nat.start()
    liar, victim, good = [await plug(nat, lab, 100 + number, f"g{number}", nic(number)) for number in (1, 2, 3)]
    me, other = station(1, lab.dhcp(liar)), station(2, lab.dhcp(victim))
    lab.dhcp(good)
    lies, stop, sent = frames.lies(me, other, gateway()), threading.Event(), [0]
    end = frames.truth(me)

    def attack() -> None:
        with frames.packet_socket("eth0") as mouth:
            while not stop.is_set():
                for lie in lies.values():
                    mouth.send(lie)
                    sent[0] += 1
                time.sleep(0.01)  # so that the reloads get their turn
            mouth.send(end)

    ping = ["ip", "netns", "exec", good, "busybox", "ping", "-q", "-A", WORLD4]
    with frames.ears({"victim": (network(victim), "eth0")}) as listeners:
        attacking = asyncio.create_task(asyncio.to_thread(frames.within, network(liar), attack))
        outside = asyncio.create_task(asyncio.to_thread(private_packets, lab, stop))
        talking = await asyncio.create_subprocess_exec(*ping, stdout=subprocess.DEVNULL)
        for number in range(rounds):
            await nat.start()
            await nat.register(200 + number % 2, f"other{number}", {0: nic(50 + number)})
        talking.kill()
        await talking.wait()
        stop.set()
        await attacking
        heard, private = await outside
        found = listeners.listen(lies, end, 30 * PATIENCE)
    print(f"{sent[0]} lies, {heard} packets of a good guest's during {rounds} reloads")
    assert found == {"victim": {}}
    assert private == 0
    assert sent[0] > 1000
    assert heard > 100


async def what_is_wrong_changes_nothing(tag: str, folder: str) -> None:
    """A rule set that nft refuses half-way leaves the rules as they were; lost rules and elements come back."""
    lab, nat = Lab(tag), network_in(folder)
    await nat.start()
    guest = await plug(nat, lab, 100, "web", nic(1))
    lab.dhcp(guest)
    table = Layout(Path(folder)).instance
    before = sh("nft list ruleset")
    assert nat.host_interface(100, 0) in before
    for broken in (
        "flush ruleset\nnonsense\n",
        f"flush set bridge {table} macs\nadd element bridge {table} macs {{ 1 }}\n",
    ):
        with pytest.raises(RunError):
            await nftables.apply(broken)
    assert sh("nft list ruleset") == before
    sh(f"nft flush set bridge {table} macs")
    assert not lab.reaches(guest, "10.77.5.1")
    await nat.register(101, "other", {0: nic(2)})
    await nat.start()
    assert lab.reaches(guest, "10.77.5.1")
    sh("nft flush ruleset")
    await until(lambda: nat.host_interface(100, 0) in sh("nft list ruleset", check=False))
    again = network_in(folder)
    sh("nft flush ruleset")
    await again.start()
    assert sh(f"nft list set bridge {table} macs").count(nat.host_interface(100, 0)) == 1
    await again.forget(100)
    assert nat.host_interface(100, 0) not in sh("nft list ruleset")


async def taps(tag: str, folder: str) -> None:
    """What a VM sends is what is written into its tap; a hot-plugged card is guarded from its first frame on."""
    lab, nat = Lab(tag), network_in(folder)
    await nat.start()
    victim = await plug(nat, lab, 100, "victim", nic(2))
    me, other = station(1, "10.77.5.77"), station(2, lab.dhcp(victim))
    card = nic(1, ip="10.77.5.77/24")
    await nat.register(200, "vm", {0: card}, "qemu")
    end = nat.host_interface(200, 0, "qemu")
    with frames.ears({"victim": (network(victim), "eth0")}) as listeners:
        (descriptor,) = tap.open_tap(end)
        try:
            for options, passes in (({}, False), ({"firewall": False}, True), ({"firewall": True}, False)):
                await nat.connect(200, 0, card.model_copy(update=options), "qemu")
                await until(lambda: Path(f"/sys/class/net/{end}/carrier").read_text() == "1\n")
                lies, last = frames.lies(me, other, gateway()), frames.truth(me)
                for frame in (*lies.values(), last):
                    os.write(descriptor, bytes(10) + frame)  # an empty `struct virtio_net_hdr`, linux/virtio_net.h
                found = listeners.listen(lies, last, 30 * PATIENCE)["victim"]
                assert bool(found) == passes, found
        finally:
            os.close(descriptor)


async def claimed_addresses(tag: str, folder: str) -> None:
    """An address that a guest has chosen itself is its own while it uses it: nobody else sends from it or for it."""
    lab, nat = Lab(tag), network_in(folder)
    await nat.start()
    liar, victim = [await plug(nat, lab, 100 + number, f"g{number}", nic(number)) for number in (1, 2)]
    lab.dhcp(liar)
    lab.dhcp(victim)
    for guest, address in ((victim, "fd12:3456:5::abcd"), (victim, "fe80::abcd"), (liar, "fd12:3456:5::ef")):
        lab.inside(guest, f"ip addr add {address}/64 dev eth0")
    for guest, source in ((victim, "fd12:3456:5::abcd"), (liar, "fd12:3456:5::ef")):
        await until(lambda guest=guest, source=source: pings(lab, guest, source))  # type: ignore[misc]
    lab.inside(liar, "ip addr add fd12:3456:5::abcd/64 dev eth0 nodad")
    assert not pings(lab, liar, "fd12:3456:5::abcd")
    assert pings(lab, victim, "fd12:3456:5::abcd")
    assert pings(lab, liar, "fd12:3456:5::ef")
    await nat.start()
    assert not pings(lab, liar, "fd12:3456:5::abcd"), "a reload forgets no claim"


def pings(lab: Lab, guest: str, source: str) -> bool:
    """Whether the bridge answers a guest that uses a source address."""
    return " bytes from " in lab.inside(guest, f"busybox ping -c 2 -W 1 -A -I {source} fd12:3456:5::1", check=False)
