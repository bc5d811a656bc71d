"""Names and addresses of guests for dnsmasq: its configuration, its host files and its leases; all pure text.

Formats: dnsmasq(8) `--conf-file`, `--hostsdir` (hosts(5)), `--dhcp-hostsdir`, `--dhcp-leasefile`.
"""

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from bastide.base.errors import InvalidParameter
from bastide.network.protocol import ManagedBridge, Port

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HWADDR = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_./@:,+\[\]-]+", re.ASCII)
_QUOTABLE = re.compile(r"/[^\x00-\x1f\x7f\"\\]+")
# Names that programs look up and trust by themselves: a guest may not answer to them.
_RESERVED = frozenset({"localhost", "wpad", "isatap"})
LEASE_SECONDS = 12 * 3600
# Shorter, because a guest that is gone cannot give an IPv6 lease back and its name would point there.
LEASE6_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Service:
    """What dnsmasq serves on a bridge, and where its files lie."""

    bridge: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface | None
    domain: str
    user: str
    pid_file: Path
    hosts: Path
    dhcp_hosts: Path
    leases: Path
    log: Path


def with_user(service: Service, user: str) -> Service:
    """The same service under an account."""
    return replace(service, user=user)


def render_config(service: Service) -> str:
    """The configuration file. Raises InvalidParameter when a value cannot stand in it.

    Guests find each other's names below the domain, get IPv4 by DHCP and IPv6 by router advertisements (SLAAC, or
    DHCPv6 when they ask). What a guest says its name is does not count (`dhcp-ignore-names`), nor what it says its
    client identifier is (copies of one image say the same): its hardware address alone does.
    """
    network4 = service.ipv4.network
    first, last = _pool(service.ipv4)
    settings: list[tuple[str, str | None]] = [
        ("user", service.user),
        ("pid-file", str(service.pid_file)),
        ("log-facility", str(service.log)),
        ("interface", service.bridge),
        ("except-interface", "lo"),
        ("bind-dynamic", None),
        ("no-hosts", None),
        ("domain-needed", None),
        ("bogus-priv", None),
        ("dns-loop-detect", None),
        ("domain", service.domain),
        ("local", f"/{service.domain}/"),
        ("expand-hosts", None),
        ("hostsdir", str(service.hosts)),
        ("dhcp-hostsdir", str(service.dhcp_hosts)),
        ("dhcp-leasefile", str(service.leases)),
        ("dhcp-authoritative", None),
        ("dhcp-rapid-commit", None),
        ("no-ping", None),
        ("quiet-dhcp", None),
        ("quiet-dhcp6", None),
        ("quiet-ra", None),
        ("dhcp-ignore-clid", None),
        ("dhcp-ignore-names", None),
        ("dhcp-lease-max", str(min(network4.num_addresses, 65536))),
        ("dhcp-range", f"{first},{last},{network4.netmask},{LEASE_SECONDS}"),
        *(_ipv6_settings(service.ipv6) if service.ipv6 else []),
    ]
    return "".join(f"{key}\n" if value is None else f"{key}={_value(key, value)}\n" for key, value in settings)


def _value(key: str, value: str) -> str:
    if _VALUE.fullmatch(value):
        return value
    if _QUOTABLE.fullmatch(value):  # a path with spaces and such
        return f'"{value}"'
    raise InvalidParameter({key: f"{value[:80]!r} cannot stand in dnsmasq's configuration"})


def _ipv6_settings(ipv6: IPv6Interface) -> list[tuple[str, str | None]]:
    low = ipv6.network.network_address + 0x1_0000
    return [
        ("enable-ra", None),
        ("dhcp-range", f"{low},{low + 0xFFFF},slaac,ra-names,{ipv6.network.prefixlen},{LEASE6_SECONDS}"),
        ("dhcp-option", f"option6:dns-server,[{ipv6.ip}]"),
    ]


def _pool(ipv4: IPv4Interface) -> tuple[str, str]:
    """First and last address for DHCP: every host of the subnet; dnsmasq leaves out its own."""
    network = ipv4.network
    return str(network.network_address + 1), str(network.broadcast_address - 1)


def label_of(name: str, taken: Iterable[str], vmid: int) -> str | None:
    """The name that a guest answers to below the domain: the first label of its host name.

    A name that another guest has, or that is reserved, gives `<label>-<vmid>`; None when that is taken too or the
    text is no host name.
    """
    label = name.partition(".")[0].lower()
    used = set(taken) | _RESERVED
    for candidate in (label, f"{label[:50].rstrip('-')}-{vmid}"):
        if candidate not in used and _LABEL.fullmatch(candidate):
            return candidate
    return None


def render_hosts(label: str | None, nics: Mapping[int, Port], bridge: str) -> str:
    """A hosts(5) file: the guest's static addresses, those on the managed bridge or, without any there, all."""
    if label is None:
        return ""
    own = [nic for nic in nics.values() if nic.bridge == bridge] or list(nics.values())
    settings = [setting for nic in own for setting in (nic.ip, nic.ip6) if setting]
    static = [ip_interface(setting).ip for setting in settings if setting not in ("dhcp", "auto", "manual")]
    return "".join(f"{address} {_checked(label)}\n" for address in static)


def render_dhcp_hosts(
    label: str | None, nics: Mapping[int, Port], bridge: str, given: Mapping[str, IPv4Address] | None = None
) -> str:
    """A `--dhcp-hostsdir` file: what the guest's hardware addresses get.

    A static address is kept for its guest; a DHCP client gets the address that is `given` to its hardware address
    (lower case), and the guest's name. Only the first interface that asks by DHCP has it, because dnsmasq lets a name
    have one lease.
    """
    lines = []
    for hwaddr, static in clients(nics, bridge):
        words = [hwaddr]
        address = static or (given or {}).get(hwaddr)
        if address is not None:
            words.append(str(address))
        if static is None and label is not None:
            words.append(_checked(label))
            label = None
        if len(words) > 1:
            lines.append(",".join(words) + "\n")
    return "".join(lines)


def parse_dhcp_hosts(text: str) -> dict[str, IPv4Address]:
    """The address of each hardware address (lower case) in such a file."""
    found = {}
    for line in text.splitlines():
        hwaddr, _, rest = line.partition(",")
        with contextlib.suppress(ValueError):
            found[hwaddr.lower()] = IPv4Address(rest.partition(",")[0])
    return found


def choose_addresses(
    nics: Mapping[int, Port], bridge: ManagedBridge, before: Mapping[str, IPv4Address], taken: Iterable[IPv4Address]
) -> dict[str, IPv4Address]:
    """An address for each hardware address (lower case) that has no static one on the managed bridge.

    It stays the one of `before`, else is the hardware address's hash or what follows that and is not `taken`, so that a
    guest has the same one again and again. There is none for an interface when the subnet is full.
    """
    network = bridge.ipv4.network
    used = {*taken, bridge.ipv4.ip, network.network_address, network.broadcast_address}
    hosts, found = network.num_addresses - 2, {}
    for hwaddr, static in clients(nics, bridge.name):
        if static is not None:
            continue
        first = int.from_bytes(hashlib.sha256(hwaddr.encode()).digest()[:8]) % hosts
        places = itertools.islice(itertools.chain(range(first, hosts), range(first)), len(used) + 1)
        candidates = itertools.chain([before[hwaddr]] if hwaddr in before else [], (network[1 + at] for at in places))
        address = next((each for each in candidates if each not in used and each in network), None)
        if address is not None:
            found[hwaddr] = address
            used.add(address)
    return found


def clients(nics: Mapping[int, Port], bridge: str) -> Iterator[tuple[str, IPv4Address | None]]:
    """Hardware address (lower case) and static address, if any, of each interface on a bridge."""
    for _, nic in sorted(nics.items()):
        if nic.bridge == bridge and nic.hwaddr is not None and _HWADDR.fullmatch(nic.hwaddr) is not None:
            static = None if nic.ip in (None, "dhcp", "manual") else ip_interface(str(nic.ip)).ip
            yield nic.hwaddr.lower(), static if isinstance(static, IPv4Address) else None


def _checked(label: str) -> str:
    if _LABEL.fullmatch(label) is None:
        raise InvalidParameter({"hostname": f"{label[:80]!r} is not a DNS label"})
    return label


def parse_leases(text: str) -> dict[str, str]:
    """IPv4 addresses by hardware address (upper case) in a `--dhcp-leasefile`; other lines are passed over.

    A line is `expiry hwaddr address name client-id`; the IPv6 part begins with a line `duid ...`.
    """
    leases = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["duid"]:
            break
        if len(words) >= 3 and _HWADDR.fullmatch(words[1]):
            leases[words[1].upper()] = words[2]
    return leases
