"""A container's interfaces in the form that every writer of network configuration wants."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

from bastide.guest.protocol import ContainerPlan
from bastide.model.container import NetworkInterface


@dataclass(frozen=True, slots=True)
class Nic:
    """One interface. `method4` and `method6` are None when nothing was asked: then nothing of it is written."""

    name: str
    method4: Literal["static", "dhcp", "manual"] | None = None
    method6: Literal["static", "dhcp", "auto", "manual"] | None = None
    address4: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    mtu: int | None = None

    @property
    def managed(self) -> bool:
        """Whether anything is to be configured inside; `manual` leaves it to the guest's administrator."""
        return self.method4 not in (None, "manual") or self.method6 not in (None, "manual")

    @property
    def onlink4(self) -> bool:
        """Whether the IPv4 gateway lies outside the interface's network and needs a route of its own."""
        return self.gateway4 is not None and self.address4 is not None and self.gateway4 not in self.address4.network

    @property
    def onlink6(self) -> bool:
        """The same for IPv6; a link-local gateway is always on the link."""
        return (
            self.gateway6 is not None
            and self.address6 is not None
            and not self.gateway6.is_link_local
            and self.gateway6 not in self.address6.network
        )


def nic_of(options: NetworkInterface) -> Nic:
    """From an interface's options."""
    ip, ip6 = options.ip, options.ip6
    static4 = IPv4Interface(ip) if ip and "/" in ip else None
    static6 = IPv6Interface(ip6) if ip6 and "/" in ip6 else None
    return Nic(
        name=options.name,
        method4="static" if static4 else ("dhcp" if ip == "dhcp" else "manual" if ip == "manual" else None),
        method6="static" if static6 else _method6(ip6),
        address4=static4,
        address6=static6,
        gateway4=IPv4Address(options.gw) if options.gw and static4 else None,
        gateway6=IPv6Address(options.gw6) if options.gw6 and static6 else None,
        mtu=options.mtu,
    )


def _method6(text: str | None) -> Literal["dhcp", "auto", "manual"] | None:
    if text == "dhcp":
        return "dhcp"
    if text == "auto":
        return "auto"
    return "manual" if text == "manual" else None


def nics_of(plan: ContainerPlan) -> list[Nic]:
    """The interfaces that the guest itself configures, in the order of their numbers."""
    return [
        nic_of(plan.config.net[index]) for index in sorted(plan.config.net) if not plan.config.net[index].host_managed
    ]
