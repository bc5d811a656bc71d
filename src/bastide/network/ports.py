"""Guests' interfaces as ports of bridges: their names, what a bridge can do, VLAN, rate, link state."""

from collections.abc import Iterable

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.base.layout import Layout
from bastide.host import links, nftables
from bastide.model.guest import Kind
from bastide.network import nft
from bastide.network.protocol import Port

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PREFIX: dict[Kind, str] = {"lxc": "veth", "qemu": "tap"}
_NAME_LIMIT = 15  # IFNAMSIZ without its NUL
_MIB = 1024 * 1024
# What tc-tbf(8) can hold: 32 bits of bytes a second. Nothing here is faster than 4 GB/s.
_FASTEST = 2**32 - 1


def host_interface(layout: Layout, vmid: int, index: int, kind: Kind = "lxc") -> str:
    """Name of the host's end of `net<index>`: `veth<vmid>i<index>` or `tap<vmid>i<index>`, as Proxmox VE does.

    A host below a root folder of its own shares the machine, so its names begin with `v` and four hex digits of the
    instance instead. What would be longer than 15 characters has its number in base 36; `-`, `_` and `veth` keep the
    forms apart, so that no two guests of one host ever share a name.
    """
    own = layout.instance.partition("-")[2][:4]
    name = f"v{own}-{vmid}i{index}" if own else f"{_PREFIX[kind]}{vmid}i{index}"
    return name if len(name) <= _NAME_LIMIT else f"v{own}_{_base36(vmid)}i{_base36(index)}"


def _base36(number: int) -> str:
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if number == 0:
            return text


def check(nic: Port) -> None:
    """Raise InvalidParameter when the interface's bridge is none or cannot do what is asked."""
    bridge = nic.bridge
    if bridge is None:
        return
    if not links.is_bridge(bridge):
        what = "is not a bridge" if links.exists(bridge) else "does not exist"
        there = ", ".join(links.bridges()) or "none"
        raise InvalidParameter({"bridge": f"bridge '{bridge}' {what}; bridges of this host: {there}"})
    vlan = "tag" if nic.tag is not None else "trunks" if nic.trunks is not None else None
    if vlan and not links.vlan_filtering(bridge):
        how = (
            f"turn it on with `ip link set {bridge} type bridge vlan_filtering 1`"
            if links.can_filter_vlans(bridge)
            else "this kernel lacks it (CONFIG_BRIDGE_VLAN_FILTERING)"
        )
        raise InvalidParameter({vlan: f"bridge '{bridge}' does not tell VLANs apart: {how}"})
    if not all(1 <= vid <= 4094 for vid in trunk_vlans(nic)):
        raise InvalidParameter({"trunks": "a VLAN number is 1 to 4094"})
    if nic.mtu is not None and nic.mtu > links.mtu(bridge):
        raise InvalidParameter({"mtu": f"{nic.mtu} is more than the {links.mtu(bridge)} bytes of bridge '{bridge}'"})


def trunk_vlans(nic: Port) -> list[int]:
    """The VLANs of `trunks`, a list such as `2;5-9`; at most one above 4094 of each range, for the error."""
    vlans: list[int] = []
    for part in (nic.trunks or "").split(";"):
        first, _, last = part.partition("-")
        if first:
            vlans.extend(range(int(first), min(int(last or first), 4095) + 1))
    return vlans


def bytes_per_second(nic: Port) -> int | None:
    """The interface's rate limit (`rate` is in MiB a second, as in Proxmox VE), or None without one."""
    rate = int((nic.rate or 0) * _MIB)
    return rate if 0 < rate <= _FASTEST else None


class Ports:
    """The host ends of one instance's guests, and which of them have a rate limit."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._limited: set[str] | None = None

    async def connect(self, name: str, nic: Port) -> None:
        """Bring a host end into the asked state. Raises NotFound without it, HostFailure when the kernel refuses."""
        rate = bytes_per_second(nic)
        await links.with_netlink(lambda netlink: _plug(netlink, name, nic))
        if self._limited is None:
            self.note(await nftables.base_chains())
        chain, limited = nft.rate_chain(name), self._limited or set()
        if rate is None and chain not in limited:
            return
        # What the guest sends is dropped above the rate (as Proxmox VE polices it); what it receives is shaped.
        await nftables.apply(nft.render_rate(self._instance, name, rate))
        (limited.discard if rate is None else limited.add)(chain)
        self._limited = limited
        await links.with_netlink(lambda netlink: netlink.limit_towards(name, rate))

    def note(self, chains: Iterable[nftables.BaseChain]) -> None:
        """Take what the kernel has for what is limited."""
        self._limited = {chain.name for chain in chains if (chain.family, chain.table) == ("netdev", self._instance)}

    async def tidy(self) -> None:
        """Remove the limits of host ends that are gone."""
        there = {nft.rate_chain(name) for name in links.names()}
        gone = sorted((self._limited or set()) - there)
        if gone:
            await nftables.apply(nft.render_forgotten(self._instance, gone))
            self._limited = (self._limited or set()) - set(gone)


def _plug(netlink: links.Netlink, name: str, nic: Port) -> None:
    """Set bridge, MTU, VLANs and link state."""
    netlink.index(name)
    if nic.bridge is not None and not links.is_bridge(nic.bridge):
        raise HostFailure(f"bridge '{nic.bridge}' does not exist any more")
    if nic.mtu is not None and links.mtu(name) != nic.mtu:
        netlink.set(name, mtu=nic.mtu)
    if links.bridge_of(name) != nic.bridge:
        netlink.set(name, master=netlink.index(nic.bridge) if nic.bridge else 0)
    if nic.bridge is not None and links.vlan_filtering(nic.bridge):
        netlink.set_port_vlans(name, nic.tag, trunk_vlans(nic))
    netlink.set(name, state="down" if nic.link_down else "up")
