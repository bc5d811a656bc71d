"""Ethernet frames that lie about who sends them, and a way to send and to count them in a guest's network.

Listeners know a frame by the packet in it, which nobody else sends: a bridge may cut off what is behind a packet, and
tags do not reach a listener. Formats: RFC 826 (ARP), 791, 2131 (DHCP), 8200, 4861 (neighbour discovery), 8415 (DHCPv6).
"""

import ctypes
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_BROADCAST, _ALL_NODES = b"\xff" * 6, b"\x33\x33\0\0\0\x01"
_ETH_P_ALL = 0x0003
_CLONE_NEWNET = 0x40000000
_OTHER = bytes.fromhex("02bad0bad001")  # nobody's hardware address


@dataclass(frozen=True)
class Station:
    """Somebody on a network."""

    hwaddr: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address
    local6: IPv6Address


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(target: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """A frame; tags are a part of the payload."""
    return target + source + struct.pack("!H", kind) + payload.ljust(46, b"\0")


def arp(operation: int, hwaddr: bytes, sender: IPv4Address, target: IPv4Address, target_hwaddr: bytes = b"\0" * 6) -> (
    bytes
):  # fmt: skip
    """An ARP packet."""
    return struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + hwaddr + sender.packed + target_hwaddr + target.packed


def ipv4(source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source.packed + target.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: IPv6Address, target: IPv6Address, following: int, payload: bytes) -> bytes:
    """An IPv6 packet with the hop limit that neighbour discovery demands."""
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 255) + source.packed + target.packed + payload


def udp(source: int, target: int, payload: bytes) -> bytes:
    """A datagram without a checksum."""
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def icmp6(source: IPv6Address, target: IPv6Address, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message with its checksum; `body` is what follows that."""
    pseudo = source.packed + target.packed + struct.pack("!II", 4 + len(body), 58)
    total = checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + body)
    return struct.pack("!BBH", kind, 0, total) + body


def dhcp(kind: int, hwaddr: bytes, given: IPv4Address) -> bytes:
    """A DHCP message: a request (1) or an answer (2)."""
    head = struct.pack("!BBBBIHH", kind, 1, 6, 0, 1, 0, 0x8000) + bytes(4) + given.packed + bytes(8)
    option = b"\x63\x82\x53\x63\x35\x01" + (b"\x01" if kind == 1 else b"\x02") + b"\xff"
    return head + hwaddr.ljust(16, b"\0") + bytes(192) + option


def lies(me: Station, victim: Station, gateway: Station) -> dict[str, bytes]:
    """One frame of each kind that `me` may not send; no two hold the same packet."""
    nodes, mine = IPv6Address("ff02::1"), me.hwaddr
    everyone, nobody, unspecified = IPv4Address("255.255.255.255"), IPv4Address(0), IPv6Address(0)
    plain4 = ipv4(me.ipv4, victim.ipv4, 17, udp(9, 9, b"foreign"))
    tagged, priority, double = (ipv4(me.ipv4, victim.ipv4, 17, udp(9, 9, word)) for word in (b"tag", b"prio", b"qinq"))

    def six(source: IPv6Address, kind: int, body: bytes) -> bytes:
        return ethernet(_ALL_NODES, mine, 0x86DD, ipv6(source, nodes, 58, icmp6(source, nodes, kind, body)))

    advertisement = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + mine
    claim = b"\x20\0\0\0" + victim.ipv6.packed + b"\x02\x01" + mine
    hidden = icmp6(me.local6, nodes, 134, advertisement)
    spoken = icmp6(me.local6, nodes, 136, claim)
    return {
        "foreign hardware address": ethernet(victim.hwaddr, _OTHER, 0x800, plain4),
        "ARP reply for the gateway": ethernet(victim.hwaddr, mine, 0x806, arp(2, mine, gateway.ipv4, victim.ipv4)),
        "ARP request of the gateway": ethernet(_BROADCAST, mine, 0x806, arp(1, mine, gateway.ipv4, gateway.ipv4)),
        "ARP with a foreign sender": ethernet(_BROADCAST, mine, 0x806, arp(2, _OTHER, me.ipv4, victim.ipv4)),
        "ARP probe for the victim's": ethernet(_BROADCAST, mine, 0x806, arp(1, mine, nobody, victim.ipv4)),
        "ARP of another hardware": ethernet(
            _BROADCAST, mine, 0x806, b"\0\6" + arp(2, mine, gateway.ipv4, victim.ipv4)[2:]
        ),
        "foreign IPv4": ethernet(
            victim.hwaddr, mine, 0x800, ipv4(gateway.ipv4, victim.ipv4, 17, udp(53, 9, b"x"))
        ),
        "ICMP redirect": ethernet(
            victim.hwaddr, mine, 0x800, ipv4(me.ipv4, victim.ipv4, 1, b"\5\1\0\0" + me.ipv4.packed + plain4[:28])
        ),
        "IGMP query": ethernet(_BROADCAST, mine, 0x800, ipv4(me.ipv4, IPv4Address("224.0.0.1"), 2, b"\x11" + bytes(7))),
        "DHCP answer": ethernet(
            _BROADCAST, mine, 0x800, ipv4(me.ipv4, everyone, 17, udp(67, 68, dhcp(2, victim.hwaddr, victim.ipv4)))
        ),
        "DHCP for another": ethernet(
            _BROADCAST, mine, 0x800, ipv4(nobody, everyone, 17, udp(68, 67, dhcp(1, victim.hwaddr, nobody)))
        ),
        "foreign IPv6": ethernet(
            victim.hwaddr, mine, 0x86DD, ipv6(gateway.ipv6, victim.ipv6, 17, udp(9, 9, b"x"))
        ),
        "foreign link-local IPv6": ethernet(
            victim.hwaddr, mine, 0x86DD, ipv6(gateway.local6, victim.local6, 17, udp(9, 9, b"x"))
        ),
        "IPv6 from elsewhere": ethernet(
            victim.hwaddr, mine, 0x86DD, ipv6(IPv6Address("2001:db8::9"), victim.ipv6, 17, udp(9, 9, b"x"))
        ),
        "neighbour advertisement": six(me.local6, 136, claim),
        "foreign link-layer address": six(me.local6, 136, b"\x20\0\0\0" + me.local6.packed + b"\x02\x01" + _OTHER),
        "neighbour solicitation": six(me.local6, 135, bytes(4) + victim.local6.packed + b"\x01\x01" + _OTHER),
        "duplicate address": six(unspecified, 135, bytes(4) + victim.ipv6.packed),
        "router advertisement": six(me.local6, 134, advertisement),
        "router advertisement behind a header": ethernet(
            _ALL_NODES, mine, 0x86DD, ipv6(me.local6, nodes, 0, b"\x3a\0\1\4\0\0\0\0" + hidden)
        ),
        "router advertisement in a fragment": ethernet(
            _ALL_NODES, mine, 0x86DD, ipv6(me.local6, nodes, 44, b"\x3a\0\0\1\0\0\0\7" + hidden)
        ),
        "a fragment that hides its protocol": ethernet(
            _ALL_NODES, mine, 0x86DD, ipv6(me.local6, nodes, 44, b"\x3c\0\0\1\0\0\0\7" + b"\x3a\4\1\4\0\0\0\0")
        ),
        "neighbour advertisement in a fragment": ethernet(
            _ALL_NODES, mine, 0x86DD, ipv6(me.local6, nodes, 44, b"\x3a\0\0\1\0\0\0\7" + spoken)
        ),
        "redirect": six(me.local6, 137, bytes(4) + me.local6.packed + gateway.ipv6.packed),
        "MLD query": six(me.local6, 130, bytes(4) + bytes(16)),
        "DHCPv6 answer": ethernet(
            _ALL_NODES, mine, 0x86DD, ipv6(me.local6, nodes, 17, udp(547, 546, b"\2\0\0\1"))
        ),
        "VLAN": ethernet(_BROADCAST, mine, 0x8100, struct.pack("!HH", 5, 0x800) + tagged),
        "priority tag": ethernet(_BROADCAST, mine, 0x8100, struct.pack("!HH", 0, 0x800) + priority),
        "QinQ": ethernet(_BROADCAST, mine, 0x88A8, struct.pack("!HHHH", 5, 0x8100, 6, 0x800) + double),
        "another protocol": ethernet(_BROADCAST, mine, 0x88B5, mine + b"another protocol"),
        "spanning tree": ethernet(bytes.fromhex("0180c2000000"), mine, 38, b"\x42\x42\x03" + bytes(29) + mine),
        "LLDP": ethernet(bytes.fromhex("0180c2000000"), mine, 0x88CC, b"\x02\x07\x04" + mine),
    }  # fmt: skip


def truth(me: Station) -> bytes:
    """A frame that `me` may send and everybody hears, another one each time."""
    return ethernet(_BROADCAST, me.hwaddr, 0x806, arp(1, me.hwaddr, me.ipv4, me.ipv4, secrets.token_bytes(6)))


def network_of(pid: int) -> str:
    """The network namespace of a process."""
    return f"/proc/{pid}/ns/net"


def within(space: str, action: Callable[[], T]) -> T:
    """Do something in a network namespace, in a thread of its own (setns(2))."""
    answer: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Path(space).open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            answer.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answer[0]


def packet_socket(interface: str) -> socket.socket:
    """A socket that sees and sends every frame of an interface of the calling thread's network (packet(7))."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: a thousand frames at once are not lost
    made.bind((interface, 0))
    return made


def packet_of(frame: bytes) -> bytes:
    """What a frame holds behind its header and tags."""
    rest = frame[12:]
    while rest[:2] in (b"\x81\x00", b"\x88\xa8"):
        rest = rest[4:]
    return rest[2:].rstrip(b"\0")


class Ears:
    """Listeners that count frames."""

    def __init__(self, sockets: Mapping[str, socket.socket]) -> None:
        self.sockets = sockets

    def listen(self, lies: Mapping[str, bytes], until: bytes, seconds: float) -> dict[str, dict[str, int]]:
        """How often which lies were heard where, up to the frame `until`. Raises TimeoutError without that."""
        names = {packet_of(lie): name for name, lie in lies.items()}
        assert len(names) == len(lies)
        found: dict[str, dict[str, int]] = {}
        for place, ear in self.sockets.items():
            counts = found.setdefault(place, {})
            ear.settimeout(seconds)
            while (frame := ear.recv(65535)) != until:
                if name := names.get(packet_of(frame)):
                    counts[name] = counts.get(name, 0) + 1
        return found


@contextmanager
def ears(places: Mapping[str, tuple[str, str]]) -> Iterator[Ears]:
    """Listen on interfaces; a place is a network namespace and the interface's name."""
    with ExitStack() as stack:
        yield Ears(
            {
                place: stack.enter_context(within(space, partial(packet_socket, name)))
                for place, (space, name) in places.items()
            }
        )
