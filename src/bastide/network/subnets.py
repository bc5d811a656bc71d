"""The managed bridge's subnets: chosen once, at the first start, so that they collide with nothing on the host."""

import hashlib
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import links
from bastide.host.resolver import host_nameservers

_MACHINE_ID = Path("/etc/machine-id")


def choose_subnets(existing: Iterable[IPv4Network | IPv6Network], seed: str) -> tuple[IPv4Interface, IPv6Interface]:
    """The bridge's own addresses: the first host of an IPv4 /24 and of an IPv6 /64 that overlap nothing in `existing`.

    The same seed gives the same answer while the host's networks stay the same. IPv4 comes from 10.0.0.0/8, or from
    the other private ranges (RFC 1918) when a route covers all of it; IPv6 is a unique local prefix whose global id
    is the seed's hash (RFC 4193). Raises HostFailure when every private subnet is taken.
    """
    taken = [network for network in existing if network.prefixlen > 0]
    taken4 = [network for network in taken if isinstance(network, IPv4Network)]
    taken6 = [network for network in taken if isinstance(network, IPv6Network)]
    ipv4 = next((net for net in _candidates4(seed) if not any(net.overlaps(other) for other in taken4)), None)
    ipv6 = next((net for net in _candidates6(seed) if not any(net.overlaps(other) for other in taken6)), None)
    if ipv4 is None or ipv6 is None:
        raise HostFailure("every private subnet overlaps a route of this host; free one for the guests' bridge")
    return IPv4Interface(f"{ipv4.network_address + 1}/24"), IPv6Interface(f"{ipv6.network_address + 1}/64")


def _shuffled(networks: Iterable[IPv4Network], seed: str) -> list[IPv4Network]:
    return sorted(networks, key=lambda network: hashlib.sha256(f"{seed}/{network}".encode()).digest())


def _candidates4(seed: str) -> Iterator[IPv4Network]:
    # The low and the round numbers of 10/8 are what people and VPNs choose by hand: they come last.
    ten = list(IPv4Network("10.0.0.0/8").subnets(new_prefix=16))
    quiet = [block for block in ten if 30 <= block.network_address.packed[1] < 250]
    rest = [block for block in ten if block not in quiet]
    others = [*IPv4Network("172.16.0.0/12").subnets(new_prefix=16), *IPv4Network("192.168.0.0/16").subnets(2)]
    for blocks in (quiet, rest, others):
        for block in _shuffled(blocks, seed):
            yield from _shuffled(block.subnets(new_prefix=24), seed)


def _candidates6(seed: str) -> Iterator[IPv6Network]:
    for attempt in range(64):
        digest = hashlib.sha256(f"{seed}/ula/{attempt}".encode()).digest()
        yield IPv6Network((bytes([0xFD]) + digest[:5] + bytes(10), 64))


def existing_networks(netlink: links.Netlink) -> list[IPv4Network | IPv6Network]:
    """Every network that the host has an address in, a route to, or a name server at."""
    networks = [each.address.network for each in netlink.addresses()]
    networks += [route.destination for route in netlink.routes()]
    networks += [ip_network(ip_address(server.partition("%")[0])) for server in host_nameservers()]
    return networks


def seed_of(instance: str) -> str:
    """A text that differs between machines and between instances on one, and stays over restarts."""
    try:
        machine = _MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    return f"{machine or socket.gethostname()}/{instance}"


async def choose_for_host(instance: str) -> tuple[IPv4Interface, IPv6Interface]:
    """`choose_subnets` for this host as it is now."""
    return choose_subnets(await links.with_netlink(existing_networks), seed_of(instance))
