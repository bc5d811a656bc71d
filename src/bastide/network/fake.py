"""A network without a kernel: bridges are names, host ends are records. For tests and for trying things out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.layout import Layout
from bastide.model.guest import Kind
from bastide.network import names, ports
from bastide.network.protocol import ManagedBridge, Port

_IPV4 = IPv4Interface("10.77.0.1/24")
_IPV6 = IPv6Interface("fd77::1/64")


@dataclass
class FakeNetwork:
    """Implements `network.protocol.Network`.

    `bridges` are the user's; `ends` holds the host ends that exist with what they were connected to (None: made and
    not connected); with `strict` a host end must be put there before `connect`, as an engine would.
    """

    layout: Layout = field(default_factory=Layout)
    bridge: str = "vmbr0"
    ipv4: IPv4Interface = _IPV4
    ipv6: IPv6Interface = _IPV6
    bridges: set[str] = field(default_factory=set)
    vlan_bridges: set[str] = field(default_factory=set)
    ends: dict[str, Port | None] = field(default_factory=dict)
    names: dict[int, str | None] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    registered: dict[int, dict[int, Port]] = field(default_factory=dict)
    strict: bool = False
    running: bool = False

    async def start(self) -> None:
        """Make the managed bridge."""
        self.running = True

    async def stop(self, *, purge: bool) -> None:
        """With `purge` forget everything."""
        if purge:
            self.running = False
            for records in (self.names, self.leases, self.registered):
                records.clear()

    def host_interface(self, vmid: int, index: int, kind: Kind = "lxc") -> str:
        """As the real network names it."""
        return ports.host_interface(self.layout, vmid, index, kind)

    async def check(self, nic: Port) -> None:
        """Raise InvalidParameter naming `bridge`, `tag` or `ip`."""
        if nic.bridge is None:
            return
        there = sorted(self.bridges | self.vlan_bridges | ({self.bridge} if self.running else set()))
        if nic.bridge not in there:
            raise InvalidParameter(
                {"bridge": f"bridge '{nic.bridge}' does not exist; bridges of this host: {', '.join(there) or 'none'}"}
            )
        if nic.tag is not None and nic.bridge not in self.vlan_bridges:
            raise InvalidParameter({"tag": f"bridge '{nic.bridge}' does not tell VLANs apart"})
        if nic.bridge == self.bridge and (nic.ip or "").partition("/")[0] == str(self.ipv4.ip):
            raise InvalidParameter({"ip": f"{self.ipv4.ip} is the address of bridge '{self.bridge}' itself"})

    async def connect(self, vmid: int, index: int, nic: Port, kind: Kind = "lxc") -> None:
        """Note what the host end was connected to."""
        name = self.host_interface(vmid, index, kind)
        if self.strict and name not in self.ends:
            raise NotFound(f"interface '{name}' does not exist")
        self.ends[name] = nic

    async def register(self, vmid: int, name: str, nics: Mapping[int, Port], kind: Kind = "lxc") -> None:
        """Note the guest's name, and lease an address to each interface on the managed bridge that asks by DHCP."""
        taken = [label for owner, label in self.names.items() if owner != vmid and label]
        self.names[vmid] = names.label_of(name, taken, vmid)
        self._give_back(vmid)
        self.registered[vmid] = dict(nics)
        for nic in nics.values():
            if nic.bridge == self.bridge and nic.hwaddr and nic.ip == "dhcp" and nic.hwaddr not in self.leases:
                used = set(self.leases.values()) | {str(self.ipv4.ip)}
                free = (str(host) for host in self.ipv4.network.hosts() if str(host) not in used)
                self.leases[nic.hwaddr] = next(free)

    async def forget(self, vmid: int) -> None:
        """Drop the guest's name and leases."""
        self.names.pop(vmid, None)
        self._give_back(vmid)

    def _give_back(self, vmid: int) -> None:
        for nic in self.registered.pop(vmid, {}).values():
            self.leases.pop(nic.hwaddr or "", None)

    async def lease(self, hwaddr: str) -> str | None:
        """The address leased to a hardware address."""
        return self.leases.get(hwaddr.upper())

    def gateway(self, bridge: str) -> ManagedBridge | None:
        """The managed bridge of that name, or None."""
        return ManagedBridge(self.bridge, self.ipv4, self.ipv6, self.layout.instance) if bridge == self.bridge else None
