"""The machine's network interfaces as `GET /nodes/{node}/network` lists them.

The ends of guests' virtual cables and the loopback are left out, as Proxmox VE leaves them out. What is told is what
the kernel has now: there is no configuration file of ours.
"""

import ipaddress
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from bastide.base.errors import NotFound
from bastide.host.links import Netlink, Route, with_netlink

_LOOPBACK = 772  # <linux/if_arp.h> ARPHRD_LOOPBACK
_KINDS = {"bridge": "bridge", "bond": "bond", "vlan": "vlan", "openvswitch": "OVSBridge", "veth": "eth", None: "eth"}
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


async def interfaces() -> list[dict[str, Any]]:
    """A row for each interface, in the order of their names, with its addresses and default gateways."""
    return await with_netlink(_list)


async def interface(name: str) -> dict[str, Any]:
    """One interface's row. Raises NotFound."""
    for row in await interfaces():
        if row["iface"] == name:
            return row
    raise NotFound(f"interface '{name[:40]}' does not exist")


def _list(net: Netlink) -> list[dict[str, Any]]:
    links = net.links()
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    addresses, routes = net.addresses(), net.routes()
    ports: dict[int, list[str]] = {}
    for link in links:
        if link.get_attr("IFLA_MASTER"):
            ports.setdefault(link.get_attr("IFLA_MASTER"), []).append(link.get_attr("IFLA_IFNAME"))
    rows = []
    for link in links:
        info = link.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info else None
        if link["ifi_type"] == _LOOPBACK or kind not in _KINDS or (kind == "veth" and link.get_attr("IFLA_MASTER")):
            continue
        row = _row(link, kind, [address for device, address in addresses if device == names[link["index"]]], routes)
        if kind == "bridge":
            row["bridge_ports"] = " ".join(sorted(ports.get(link["index"], [])))
        elif kind == "bond":
            row["slaves"] = " ".join(sorted(ports.get(link["index"], [])))
        elif kind == "vlan":
            row["vlan-raw-device"] = names.get(link.get_attr("IFLA_LINK"), "")
            row["vlan-id"] = info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_VLAN_ID")
        rows.append(row)
    rows.sort(key=lambda row: str(row["iface"]))
    return [{**row, "priority": place} for place, row in enumerate(rows, 3)]


def _row(
    link: Any, kind: str | None, addresses: list[IPv4Interface | IPv6Interface], routes: list[Route]
) -> dict[str, Any]:
    name = link.get_attr("IFLA_IFNAME")
    row: dict[str, Any] = {
        "iface": name,
        "type": _KINDS[kind],
        "exists": 1,
        "active": int(link["state"] == "up"),
        "autostart": 1,
        "mtu": link.get_attr("IFLA_MTU"),
        "hwaddr": link.get_attr("IFLA_ADDRESS"),
        "method": "manual",
        "method6": "manual",
        "families": [],
    }
    for address in reversed([address for address in addresses if not address.ip.is_link_local]):
        six = "6" if address.version == 6 else ""
        row |= {
            f"method{six}": "static",
            f"address{six}": str(address.ip),
            f"cidr{six}": str(address),
            f"netmask{six}": address.network.prefixlen if six else str(address.network.netmask),
        }
        row["families"] = sorted({*row["families"], "inet6" if six else "inet"})
    for route in routes:
        if route.interface == name and route.gateway is not None and route.destination in _EVERYWHERE:
            row["gateway6" if route.destination.version == 6 else "gateway"] = route.gateway
    return row
