"""The host's interfaces as `GET /nodes/{node}/network` shows them: what the kernel has, with the kept configuration.

The kept configuration is `/etc/network/interfaces` (interfaces(5)) where the host has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from bastide.base.errors import NotFound
from bastide.host import links

_INTERFACES = Path("/etc/network/interfaces")
_TYPES = {"": "eth", "bridge": "bridge", "bond": "bond", "vlan": "vlan"}
_BRIDGE_TYPES = {"any_bridge", "any_local_bridge"}
Row = dict[str, Any]


@dataclass
class Kept:
    """What interfaces(5) says of one interface: its methods by family, and whether it comes up by itself."""

    methods: dict[str, str] = field(default_factory=dict)
    auto: bool = False


def parse_interfaces(text: str) -> dict[str, Kept]:
    """Read an interfaces(5) file: `auto`, `allow-hotplug` and `iface` lines; the rest is passed over."""
    found: dict[str, Kept] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:1] in (["auto"], ["allow-auto"], ["allow-hotplug"]):
            for name in words[1:]:
                found.setdefault(name, Kept()).auto = True
        elif words[:1] == ["iface"] and len(words) >= 2:
            kept = found.setdefault(words[1], Kept())
            if len(words) >= 4 and words[2] in ("inet", "inet6"):
                kept.methods[words[2]] = words[3]
    return found


def rows(
    devices: Iterable[links.Link],
    addresses: Iterable[links.Address],
    routes: Iterable[links.Route],
    kept: dict[str, Kept],
    vlan_aware: set[str],
) -> list[Row]:
    """The table's rows; pure. Guests' ends, taps and the loopback are not among them."""
    devices, addresses, routes = list(devices), list(addresses), list(routes)
    ports: dict[str, list[str]] = {}
    for device in devices:
        if device.master:
            ports.setdefault(device.master, []).append(device.name)
    shown = [device for device in devices if not _is_hidden(device)]
    result = []
    for priority, device in enumerate(shown, start=1):
        own = [each for each in addresses if each.interface == device.name]
        row = _row(device, kept.get(device.name, Kept()), own, routes)
        row["priority"] = priority
        members = " ".join(sorted(port for port in ports.get(device.name, []) if not _is_guest_port(devices, port)))
        if device.kind == "bridge":
            row |= {"bridge_ports": members, "bridge_vlan_aware": int(device.name in vlan_aware)}
        elif device.kind == "bond":
            row["slaves"] = members
        result.append(row)
    return result


def _is_hidden(device: links.Link) -> bool:
    return device.loopback or device.kind in ("tun", "ifb") or (device.kind == "veth" and device.master is not None)


def _is_guest_port(devices: list[links.Link], name: str) -> bool:
    return any(device.name == name and device.kind in ("veth", "tun") for device in devices)


def _row(device: links.Link, kept: Kept, own: list[links.Address], routes: list[links.Route]) -> Row:
    # A veth that is no port is the machine's own card: the machine is a container.
    kind = "eth" if device.kind == "veth" else _TYPES.get(device.kind, "unknown")
    row: Row = {
        "iface": device.name,
        "type": kind,
        "active": int(device.up),
        "exists": 1,
        "autostart": int(kept.auto),
        "families": ["inet"],
        "mtu": device.mtu,
    }
    if device.kind == "vlan" and device.vlan_id is not None:
        row |= {"vlan-id": device.vlan_id, "vlan-raw-device": device.lower or ""}
    for family, suffix, dynamic in (("inet", "", "dhcp"), ("inet6", "6", "auto")):
        version = 6 if suffix else 4
        of_family = [each for each in own if each.address.version == version and not each.address.is_link_local]
        row[f"method{suffix}"] = kept.methods.get(family) or _method(of_family, dynamic)
        if not of_family:
            continue
        if suffix:
            row["families"].append(family)
        address = of_family[0].address
        prefix = address.network.prefixlen
        row |= {
            f"address{suffix}": str(address.ip),
            f"netmask{suffix}": str(prefix) if isinstance(address, IPv4Interface) else prefix,
            f"cidr{suffix}": str(address),
        }
        gateway = next((route.gateway for route in routes if _is_way_out(route, device.name, version)), None)
        if gateway:
            row[f"gateway{suffix}"] = gateway
    return row


def _method(own: list[links.Address], dynamic: str) -> str:
    if not own:
        return "manual"
    return dynamic if own[0].dynamic else "static"


def _is_way_out(route: links.Route, interface: str, version: int) -> bool:
    network = route.destination
    return route.interface == interface and network.version == version and network.prefixlen == 0


def matches(row: Row, kind: str | None) -> bool:
    """Whether a row is of a type as `GET /nodes/{node}/network?type=` names it (None and `include_sdn`: all)."""
    if kind in (None, "include_sdn"):
        return True
    return bool(row["type"] == ("bridge" if kind in _BRIDGE_TYPES else kind))


async def interfaces(kind: str | None = None) -> list[Row]:
    """The host's interfaces of a type, or all."""

    def look(netlink: links.Netlink) -> list[Row]:
        try:
            kept = parse_interfaces(_INTERFACES.read_text(errors="replace"))
        except OSError:
            kept = {}
        aware = {name for name in links.bridges() if links.vlan_filtering(name)}
        return rows(netlink.links(), netlink.addresses(), netlink.routes(), kept, aware)

    return [row for row in await links.with_netlink(look) if matches(row, kind)]


async def interface(name: str) -> Row:
    """One interface. Raises NotFound."""
    for row in await interfaces():
        if row["iface"] == name:
            return row
    raise NotFound(f"interface '{name}' does not exist")
