"""What the network room offers to operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Protocol

from bastide.model.container import NetworkInterface
from bastide.model.guest import Kind


@dataclass(frozen=True, slots=True)
class ManagedBridge:
    """A NAT bridge of ours: its addresses are the guests' gateway and name server, and names end with its domain."""

    name: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface
    domain: str


@dataclass(frozen=True, slots=True)
class VmPort:
    """A VM's interface as the network sees it, in the terms of a container's.

    `ip` and `ip6` are what cloud-init configures: an address with its prefix, `dhcp`, `auto`, `manual` or None.
    """

    hwaddr: str | None = None
    bridge: str | None = None
    tag: int | None = None
    trunks: str | None = None
    rate: float | None = None
    mtu: int | None = None
    link_down: bool | None = None
    firewall: bool | None = None
    ip: str | None = None
    ip6: str | None = None


Port = NetworkInterface | VmPort
"""A guest's interface. `rate` is MiB a second, `trunks` are VLANs such as `2;5-9`."""


class Network(Protocol):
    """Bridges and names for guests."""

    @property
    def bridge(self) -> str:
        """The managed bridge's name."""

    async def start(self) -> None:
        """Bring up the managed bridge, its nftables table and dnsmasq; finding them up already is fine."""

    async def stop(self, *, purge: bool) -> None:
        """Leave everything to the running guests, or with `purge` remove every trace."""

    def host_interface(self, vmid: int, index: int, kind: Kind = "lxc") -> str:
        """Name of the host's end of a guest's `net<index>`, at most 15 characters."""

    async def check(self, nic: Port) -> None:
        """Raise InvalidParameter when the interface's bridge does not exist or cannot do what it asks (tag)."""

    async def connect(self, vmid: int, index: int, nic: Port, kind: Kind = "lxc") -> None:
        """Bring a started interface's host end into the asked state: bridge, tag, rate, link_down, mtu."""

    async def register(self, vmid: int, name: str, nics: Mapping[int, Port], kind: Kind = "lxc") -> None:
        """Make the guest's name resolve to its static addresses, and its DHCP name be its host name.

        From then on its interfaces are guarded, also those that are not there yet: call it before they are.
        """

    async def forget(self, vmid: int) -> None:
        """Remove what `register` made, and the guest's leases."""

    async def lease(self, hwaddr: str) -> str | None:
        """The IPv4 address that DHCP gave to a hardware address, if any."""

    def gateway(self, bridge: str) -> ManagedBridge | None:
        """The managed bridge of that name, or None for a bridge of the user's."""
