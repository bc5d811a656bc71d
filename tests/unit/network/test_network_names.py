"""dnsmasq's files: golden configuration, hostile names, leases."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.model.container import NetworkInterface
from bastide.network import names
from bastide.network.protocol import ManagedBridge

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "dnsmasq"
SERVICE = names.Service(
    bridge="vmbr0",
    ipv4=IPv4Interface("10.77.5.1/24"),
    ipv6=IPv6Interface("fd12:3456:789a::1/64"),
    domain="bastide",
    user="dnsmasq",
    pid_file=Path("/run/bastide-network/dnsmasq.pid"),
    hosts=Path("/run/bastide-network/hosts"),
    dhcp_hosts=Path("/run/bastide-network/dhcp-hosts"),
    leases=Path("/var/lib/bastide/network/leases"),
    log=Path("/var/log/bastide/dnsmasq.log"),
)


def nic(**options: str) -> NetworkInterface:
    given = {"name": "eth0", "bridge": "vmbr0", "hwaddr": "02:00:00:00:00:01", **options}
    return NetworkInterface.model_validate(given)


@pytest.mark.parametrize(("name", "service"), [("both-families", SERVICE), ("ipv4-only", replace(SERVICE, ipv6=None))])
def test_golden(name: str, service: names.Service) -> None:
    assert names.render_config(service) == (GOLDEN / f"{name}.conf").read_text()


@given(st.text(max_size=40))
def test_a_value_stays_on_its_line(text: str) -> None:
    lines = names.render_config(SERVICE).count("\n")
    try:
        assert names.render_config(replace(SERVICE, domain=text)).count("\n") == lines
    except InvalidParameter:
        assert not text.isalnum() or not text.isascii()


@given(st.text(max_size=40))
def test_a_path_is_one_quoted_value(text: str) -> None:
    plain = names.render_config(SERVICE)
    try:
        shown = names.render_config(replace(SERVICE, log=Path("/x") / text.lstrip("/")))
    except InvalidParameter:
        assert any(not letter.isprintable() or letter in '"\\' for letter in text)
    else:
        assert shown.count("\n") == plain.count("\n")
        assert shown.count('"') in (0, 2)


@given(st.text(max_size=80), st.sets(st.text(max_size=20), max_size=3), st.integers(100, 999_999_999))
def test_a_label_is_a_dns_label_that_nobody_has(name: str, taken: set[str], vmid: int) -> None:
    label = names.label_of(name, taken, vmid)
    if label is not None:
        assert label not in taken
        assert len(label) <= 63
        assert all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in label)


def test_labels() -> None:
    assert names.label_of("Web.example.com", [], 100) == "web"
    assert names.label_of("web", ["web"], 101) == "web-101"
    assert names.label_of("web", ["web", "web-101"], 101) is None
    assert names.label_of("wpad", [], 100) == "wpad-100"


def test_static_addresses_resolve() -> None:
    nics = {
        0: nic(ip="10.77.5.20/24", ip6="fd12::20/64"),
        1: nic(name="eth1", bridge="br1", ip="192.168.3.4/24"),
        2: nic(name="eth2", ip="dhcp", ip6="auto"),
    }
    assert names.render_hosts("web", nics, "vmbr0") == "10.77.5.20 web\nfd12::20 web\n"
    assert names.render_hosts("web", {1: nics[1]}, "vmbr0") == "192.168.3.4 web\n"
    assert names.render_hosts(None, nics, "vmbr0") == ""


def test_one_dhcp_interface_has_the_name_and_a_static_one_its_address() -> None:
    nics = {
        0: nic(ip="10.77.5.20/24"),
        1: nic(name="eth1", hwaddr="02:00:00:00:00:02", ip="dhcp"),
        2: nic(name="eth2", hwaddr="02:00:00:00:00:03", ip="dhcp"),
        3: nic(name="eth3", hwaddr="02:00:00:00:00:04", bridge="br1", ip="dhcp"),
    }
    assert names.render_dhcp_hosts("web", nics, "vmbr0") == "02:00:00:00:00:01,10.77.5.20\n02:00:00:00:00:02,web\n"
    given = {f"02:00:00:00:00:0{number}": IPv4Address(f"10.77.5.{number}") for number in (1, 2, 3)}
    text = names.render_dhcp_hosts("web", nics, "vmbr0", given)
    assert text == "02:00:00:00:00:01,10.77.5.20\n02:00:00:00:00:02,10.77.5.2,web\n02:00:00:00:00:03,10.77.5.3\n"
    assert names.parse_dhcp_hosts(text) == {**given, "02:00:00:00:00:01": IPv4Address("10.77.5.20")}


BRIDGE = ManagedBridge("vmbr0", IPv4Interface("10.77.5.1/28"), IPv6Interface("fd12::1/64"), "bastide")
addresses = st.integers(0, 15).map(lambda number: IPv4Address("10.77.5.0") + number)


@given(st.sets(addresses), addresses, st.integers(1, 20))
def test_an_address_is_given_to_one_alone(taken: set[IPv4Address], before: IPv4Address, count: int) -> None:
    cards = {index: nic(name=f"eth{index}", hwaddr=f"02:00:00:00:00:{index:02x}") for index in range(count)}
    given = names.choose_addresses(cards, BRIDGE, {"02:00:00:00:00:00": before}, taken)
    assert len(set(given.values())) == len(given)
    hosts = set(BRIDGE.ipv4.network.hosts()) - {BRIDGE.ipv4.ip}
    assert set(given.values()) <= hosts - taken
    assert len(given) == min(count, len(hosts - taken)), "as long as there is one, somebody gets it"
    assert names.choose_addresses(cards, BRIDGE, given, taken) == given, "it stays"
    if before in hosts - taken:
        assert given["02:00:00:00:00:00"] == before


def test_leases() -> None:
    text = (
        "1795475810 02:00:00:00:00:01 10.77.5.204 web *\n"
        "1795475810 02:00:00:00:00:aB 10.77.5.7 * 01:02\n"
        "nonsense\n"
        "duid 00:01:00:01\n"
        "1795475810 02:00:00:00:00:02 fd12::7 web 00:01\n"
    )
    assert names.parse_leases(text) == {"02:00:00:00:00:01": "10.77.5.204", "02:00:00:00:00:AB": "10.77.5.7"}


@given(st.text())
def test_leases_never_fail(text: str) -> None:
    names.parse_leases(text)
