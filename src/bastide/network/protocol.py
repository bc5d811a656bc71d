"""What the network room offers to operations."""

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Protocol

from bastide.model.container import NetworkInterface


@dataclass(frozen=True, slots=True)
class ManagedBridge:
    """A NAT bridge of ours: its addresses are the guests' gateway and name server, and names end with its domain."""

    name: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface
    domain: str


class Network(Protocol):
    """Bridges and names for guests."""

    async def start(self) -> None:
        """Bring up the managed bridge, its nftables table and dnsmasq; finding them up already is fine."""

    async def stop(self, *, purge: bool) -> None:
        """Leave everything to the running guests, or with `purge` remove every trace."""

    def host_interface(self, vmid: int, index: int) -> str:
        """Name of the host's end of a guest's `net<index>`, at most 15 characters."""

    async def check(self, nic: NetworkInterface) -> None:
        """Raise InvalidParameter when the interface's bridge does not exist or cannot do what it asks (tag)."""

    async def connect(self, vmid: int, index: int, nic: NetworkInterface) -> None:
        """Bring a started interface's host end into the asked state: bridge, tag, rate, link_down, mtu."""

    async def register(self, vmid: int, name: str, nics: dict[int, NetworkInterface]) -> None:
        """Make the guest's name resolve to its static addresses, and its DHCP name be its host name."""

    async def forget(self, vmid: int) -> None:
        """Remove what `register` made, and the guest's leases."""

    async def lease(self, hwaddr: str) -> str | None:
        """The IPv4 address that DHCP gave to a hardware address, if any."""

    def gateway(self, bridge: str) -> ManagedBridge | None:
        """The managed bridge of that name, or None for a bridge of the user's."""
