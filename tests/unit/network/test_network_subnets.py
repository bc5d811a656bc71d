"""The choice of subnets: stable, private, and never on top of what the host has."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.network.subnets import choose_subnets

networks4 = st.builds(
    lambda number, prefix: IPv4Network((number, prefix), strict=False),
    st.integers(0x0A000000, 0x0AFFFFFF),
    st.integers(8, 32),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(networks4.filter(lambda network: network.prefixlen > 9), max_size=20), st.text(max_size=20))
def test_overlaps_nothing_and_is_stable(existing: list[IPv4Network], seed: str) -> None:
    ipv4, ipv6 = choose_subnets(existing, seed)
    assert (ipv4, ipv6) == choose_subnets(reversed(existing), seed)
    assert not any(ipv4.network.overlaps(network) for network in existing)
    assert ipv4.network.is_private
    assert ipv4.network.prefixlen == 24
    assert ipv6.network.prefixlen == 64
    assert ipv6.ip.packed[0] == 0xFD


def test_default_routes_do_not_count() -> None:
    assert choose_subnets([ip_network("0.0.0.0/0"), ip_network("::/0")], "a") == choose_subnets([], "a")


def test_instances_differ() -> None:
    chosen = [choose_subnets([], f"machine/{number}") for number in range(20)]
    assert len({ipv4 for ipv4, _ in chosen}) == len({ipv6 for _, ipv6 in chosen}) == 20


def test_leaves_ten_when_a_route_covers_it() -> None:
    ipv4, _ = choose_subnets([ip_network("10.0.0.0/8"), ip_network("172.16.0.0/12")], "a")
    assert ipv4 in IPv4Network("192.168.0.0/16")


def test_the_next_prefix_when_the_first_is_taken() -> None:
    _, first = choose_subnets([], "a")
    _, second = choose_subnets([IPv6Network(first.network)], "a")
    assert first != second


def test_says_so_when_nothing_is_free() -> None:
    private = [ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    with pytest.raises(HostFailure, match="private subnet"):
        choose_subnets(private, "a")
