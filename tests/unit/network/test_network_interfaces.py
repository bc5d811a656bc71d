"""Rows of `GET /nodes/{node}/network`."""

from ipaddress import ip_interface, ip_network

from bastide.host.links import Address, Link, Route
from bastide.network.interfaces import Kept, matches, parse_interfaces, rows


def link(name: str, kind: str = "", **more: object) -> Link:
    values = {"up": True, "loopback": False, "mtu": 1500, "master": None, "lower": None, "vlan_id": None, **more}
    return Link(name, kind, **values)  # type: ignore[arg-type]


DEVICES = [
    link("lo", loopback=True),
    link("eth0", master="vmbr0"),
    link("vmbr0", "bridge"),
    link("veth100i0", "veth", master="vmbr0"),
    link("eth1.5", "vlan", lower="eth1", vlan_id=5, up=False),
]
ADDRESSES = [
    Address("vmbr0", ip_interface("192.0.2.2/24"), dynamic=True),
    Address("vmbr0", ip_interface("fe80::1/64"), dynamic=False),
    Address("vmbr0", ip_interface("2001:db8::2/64"), dynamic=False),
]
ROUTES = [Route(ip_network("0.0.0.0/0"), "vmbr0", "192.0.2.1"), Route(ip_network("192.0.2.0/24"), "vmbr0", None)]


def test_rows() -> None:
    found = {row["iface"]: row for row in rows(DEVICES, ADDRESSES, ROUTES, {"vmbr0": Kept({}, auto=True)}, {"vmbr0"})}
    assert list(found) == ["eth0", "vmbr0", "eth1.5"]
    assert found["vmbr0"] == {
        "iface": "vmbr0",
        "type": "bridge",
        "active": 1,
        "exists": 1,
        "autostart": 1,
        "families": ["inet", "inet6"],
        "mtu": 1500,
        "method": "dhcp",
        "address": "192.0.2.2",
        "netmask": "24",
        "cidr": "192.0.2.2/24",
        "gateway": "192.0.2.1",
        "method6": "static",
        "address6": "2001:db8::2",
        "netmask6": 64,
        "cidr6": "2001:db8::2/64",
        "priority": 2,
        "bridge_ports": "eth0",
        "bridge_vlan_aware": 1,
    }
    assert found["eth0"]["method"] == "manual"
    assert (found["eth1.5"]["vlan-id"], found["eth1.5"]["vlan-raw-device"], found["eth1.5"]["active"]) == (5, "eth1", 0)


def test_kept_configuration() -> None:
    kept = parse_interfaces(
        "# a comment\nauto lo eth0\niface lo inet loopback\nallow-hotplug eth1\niface eth0 inet dhcp\n"
        "iface eth0 inet6 auto\niface vmbr0 inet static\n\taddress 192.0.2.2/24\nsource /etc/network/interfaces.d/*\n"
    )
    assert kept["eth0"] == Kept({"inet": "dhcp", "inet6": "auto"}, auto=True)
    assert kept["eth1"].auto
    assert kept["vmbr0"] == Kept({"inet": "static"}, auto=False)


def test_types() -> None:
    row = {"type": "bridge"}
    assert all(matches(row, kind) for kind in (None, "bridge", "any_bridge", "any_local_bridge", "include_sdn"))
    assert not matches(row, "eth")
