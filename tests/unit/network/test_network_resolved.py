"""What systemd-resolved is told: names below the domain, and no others, are asked of the bridge."""

from ipaddress import IPv4Address

from bastide.host.resolved import commands


def test_only_the_domain_is_routed_to_the_bridge() -> None:
    said = commands("vmbr0", IPv4Address("10.77.5.1"), "bastide")
    assert ["resolvectl", "domain", "vmbr0", "~bastide"] in said
    assert ["resolvectl", "default-route", "vmbr0", "no"] in said
    assert ["resolvectl", "dns", "vmbr0", "10.77.5.1"] in said
