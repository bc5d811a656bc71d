"""Guards: whose they are and what they allow, as golden text, against nft itself, and as differences."""

import subprocess
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.model.container import NetworkInterface
from bastide.network import guards
from bastide.network.guards import Guard
from bastide.network.protocol import ManagedBridge, VmPort

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "nft"
BRIDGE = ManagedBridge("vmbr0", IPv4Interface("10.77.5.1/24"), IPv6Interface("fd12:3456:789a::1/64"), "bastide")
ROUTERS = [IPv6Address("fe80::1"), IPv6Address("fd12:3456:789a::1")]
WEB = Guard("veth100i0", "02:00:00:00:00:01", True, True, ("10.77.5.9",), ("fe80::ff:fe00:1", "fd12::20"))
LIGHT = Guard("tap101i0", "02:00:00:00:00:02", strict=False)
RULES = guards.render_guards("bastide", BRIDGE.ipv6.network, guards.elements([WEB, LIGHT], ROUTERS))
CASES = {
    "guards": RULES,
    "guards-afresh": guards.render_afresh("bastide", "# the rules\n"),
    "guards-changed": guards.render_change(
        "bastide",
        guards.elements([WEB, LIGHT], ROUTERS),
        guards.elements([replace(WEB, trunk=False, ipv4=("10.77.5.10",))], ROUTERS),
    ),
}


def nic(**options: object) -> NetworkInterface:
    values = {"name": "eth0", "bridge": "vmbr0", "hwaddr": "02:00:00:00:00:01", **options}
    return NetworkInterface.model_validate(values)


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert CASES[name] == (GOLDEN / f"{name}.nft").read_text()


@pytest.mark.system
def test_nft_takes_the_rules_again_and_again() -> None:
    afresh = guards.render_afresh("bastide", RULES)
    for ruleset in (RULES, RULES + RULES, RULES + CASES["guards-changed"], RULES + afresh + RULES):
        subprocess.run(["unshare", "-n", "nft", "-f", "-"], input=ruleset, text=True, check=True)


def test_on_the_managed_bridge_addresses_are_the_guests_own() -> None:
    guard = guards.guard_of("veth100i0", nic(ip6="fd12:3456:789a::20/64"), BRIDGE, "10.77.5.9")
    assert guard == Guard(
        "veth100i0",
        "02:00:00:00:00:01",
        strict=True,
        ipv4=("10.77.5.9",),
        ipv6=("fe80::ff:fe00:1", "fd12:3456:789a::ff:fe00:1", "fd12:3456:789a::20"),
    )


@pytest.mark.parametrize(
    ("options", "strict"),
    [
        ({}, True),
        ({"firewall": True}, True),
        ({"firewall": False}, None),
        ({"tag": 5}, False),
        ({"tag": 5, "firewall": False}, None),
        ({"bridge": "br0"}, None),
        ({"bridge": "br0", "firewall": False}, None),
        ({"bridge": "br0", "firewall": True}, False),
        ({"bridge": None}, None),
    ],
)
def test_who_is_guarded(options: dict[str, object], strict: bool | None) -> None:
    found = guards.guard_of("veth100i0", nic(**options), BRIDGE, None)
    assert (found and found.strict) == strict
    card = VmPort(**{"hwaddr": "02:00:00:00:00:01", "bridge": "vmbr0", **options})  # type: ignore[arg-type]
    assert guards.guard_of("veth100i0", card, BRIDGE, None) == found


ports = st.sampled_from([f"veth{vmid}i0" for vmid in (100, 101, 102)])
addresses = st.sets(st.sampled_from(["fd12::1", "fd12::2", "fe80::9"]), max_size=2).map(tuple)
one_guard = st.builds(Guard, ports, st.just("02:00:00:00:00:01"), st.booleans(), st.booleans(), ipv6=addresses)
some_guards = st.lists(one_guard, max_size=3, unique_by=lambda guard: guard.interface)


@given(some_guards, some_guards)
def test_a_change_turns_one_state_into_the_other(one: list[Guard], other: list[Guard]) -> None:
    before, after = guards.elements(one, ROUTERS), guards.elements(other, ROUTERS)
    state = {name: set(found) for name, found in before.items()}
    for line in guards.render_change("bastide", before, after).splitlines():
        verb, _, _, _, name, rest = line.split(" ", 5)
        for element in rest.strip("{ }").split(", "):
            assert (element in state[name]) == (verb == "delete")
            (state[name].remove if verb == "delete" else state[name].add)(element)
    assert state == after


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_no_value_adds_a_word(interface: str, hwaddr: str) -> None:
    try:
        found = guards.elements([Guard(interface, hwaddr, strict=True)], [])
    except InvalidParameter:
        return
    assert found["strict"] == {f'"{interface}"'}
    assert found["macs"] == {f'"{interface}" . 0x{hwaddr.replace(":", "").lower()}'}
    assert interface.isascii()
    assert not set(interface) & set(' "{};\\\n,')


def test_the_bridges_own_addresses_are_nobody_elses() -> None:
    assert guards.elements([], ROUTERS)["taken6"] == {f"0x{int(address):032x}" for address in ROUTERS}
