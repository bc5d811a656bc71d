"""The network of a host: one NAT bridge of ours, and any bridge of the user's.

Everything is asked of the kernel and of the file system each time, so that a killed daemon, a flushed rule set or a
removed bridge is repaired by the next `start`, and while the daemon runs by its supervisor.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotSupported
from bastide.base.layout import Layout
from bastide.host import links, netevents, nftables, sysctl
from bastide.model.guest import Kind
from bastide.network import forwarding, nft, ports
from bastide.network.guarding import Guarding
from bastide.network.guards import LINK_LOCAL, Guard, address_with, guard_of
from bastide.network.nameservice import NameService
from bastide.network.protocol import ManagedBridge, Port
from bastide.network.subnets import seed_of

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 1.0
_RETRY_SECONDS = 30.0


class NatNetwork:
    """Implements `network.protocol.Network` on the kernel's bridges, nftables and dnsmasq."""

    def __init__(self, layout: Layout, bridge: str, ipv4: IPv4Interface, ipv6: IPv6Interface) -> None:
        self._layout = layout
        self._managed = ManagedBridge(bridge, ipv4, ipv6, layout.instance)
        self._hwaddr = stable_hwaddr(f"{seed_of(layout.instance)}/{bridge}")
        self._names = NameService(layout, self._managed)
        self._ports = ports.Ports(layout.instance)
        self._guards = Guarding(layout.instance, ipv6.network)
        self._lock = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self._ruleset = ""
        self._warned: list[str] = []

    @property
    def bridge(self) -> str:
        """The managed bridge's name."""
        return self._managed.name

    async def start(self) -> None:
        """Bring up the bridge, its rules and its dnsmasq, repair what is amiss, and watch over them.

        Raises HostFailure when a bridge of that name exists that is not ours, or the host refuses.
        """
        async with self._lock:
            self._ruleset = ""
            if self._supervisor is None:
                self._supervisor = asyncio.create_task(self._supervise())
            try:
                await self._ensure()
            except NotSupported as error:
                raise HostFailure(str(error)) from error

    async def stop(self, *, purge: bool) -> None:
        """Stop watching; with `purge` remove the bridge, the rules, dnsmasq, its leases, and set settings back."""
        async with self._lock:  # so that no repair is cut off half-way
            supervisor, self._supervisor = self._supervisor, None
            if supervisor is not None:
                supervisor.cancel()
                await asyncio.gather(supervisor, return_exceptions=True)
            if not purge:
                return
            await self._guards.purge()
            await self._names.purge()
            for family in ("inet", "netdev"):
                await nftables.delete_table(family, self._layout.instance)
            await asyncio.to_thread(forwarding.give_back, self._managed.name)
            await links.with_netlink(self._remove_bridge)
            self._ruleset = ""

    def host_interface(self, vmid: int, index: int, kind: Kind = "lxc") -> str:
        """See `ports.host_interface`."""
        return ports.host_interface(self._layout, vmid, index, kind)

    async def check(self, nic: Port) -> None:
        """Raise InvalidParameter naming `bridge`, `tag`, `trunks`, `mtu` or `ip` when the host cannot serve it."""
        ports.check(nic)
        if nic.bridge == self._managed.name:
            for field, own in (("ip", self._managed.ipv4), ("ip6", self._managed.ipv6)):
                if (getattr(nic, field) or "").partition("/")[0] == str(own.ip):
                    raise InvalidParameter({field: f"{own.ip} is the address of bridge '{nic.bridge}' itself"})

    async def connect(self, vmid: int, index: int, nic: Port, kind: Kind = "lxc") -> None:
        """Bring the host end of `net<index>` into the asked state. Raises NotFound without it, HostFailure."""
        name = self.host_interface(vmid, index, kind)
        guard = self._guard(vmid, name, nic)
        # What it may send is less of the two at every moment: on the managed bridge nothing is sent unguarded.
        loosened = self._guards.is_strict(vmid, name) and not (guard is not None and guard.strict)
        if not loosened:
            await self._guards.put(vmid, {name: guard})
        await self._ports.connect(name, nic)
        if loosened:
            await self._guards.put(vmid, {name: guard})

    async def register(self, vmid: int, name: str, nics: Mapping[int, Port], kind: Kind = "lxc") -> None:
        """Make the guest's name resolve, keep its addresses for it, and guard its interfaces before they are there."""
        await self._names.register(vmid, name, nics)
        ends = {self.host_interface(vmid, index, kind): nic for index, nic in nics.items()}
        wanted = {end: self._guard(vmid, end, nic) for end, nic in ends.items()}
        await self._guards.put(vmid, wanted, whole=True)

    async def forget(self, vmid: int) -> None:
        """Remove the guest's names and guards and give its addresses back."""
        await self._names.forget(vmid)
        await self._guards.forget(vmid)

    def _guard(self, vmid: int, end: str, nic: Port) -> Guard | None:
        address = self._names.addresses(vmid).get((nic.hwaddr or "").lower())
        return guard_of(end, nic, self._managed, None if address is None else str(address))

    async def lease(self, hwaddr: str) -> str | None:
        """The IPv4 address that DHCP gave to a hardware address, if any."""
        return self._names.leases().get(hwaddr.upper())

    def gateway(self, bridge: str) -> ManagedBridge | None:
        """The managed bridge of that name, or None."""
        return self._managed if bridge == self._managed.name else None

    async def problems(self) -> list[str]:
        """What on this host stands in the guests' way and is not ours to change; a sentence each."""
        return self._problems(await nftables.base_chains())

    def _problems(self, chains: list[nftables.BaseChain]) -> list[str]:
        hooks = {"forward": "reach anything beyond the host", "input": "ask this host for DHCP and DNS"}
        return [
            f"the firewall chain '{chain.family} {chain.table} {chain.name}' drops what it does not name: allow the "
            f"interface '{self._managed.name}' there, or guests may not {hooks[chain.hook]}"
            for chain in chains
            if chain.policy == "drop" and chain.hook in hooks
        ]

    async def _ensure(self) -> None:
        outer4, outer6, own = await links.with_netlink(self._bring_up)
        guarded4, guarded6 = await asyncio.to_thread(forwarding.ensure, self._managed.name, outer4, outer6)
        ruleset = nft.render_nat(
            self._layout.instance,
            self._managed.name,
            self._managed.ipv4.network,
            self._managed.ipv6.network,
            guarded4=guarded4,
            guarded6=guarded6,
        )
        chains = await nftables.base_chains()
        there = {chain.family for chain in chains if chain.table == self._layout.instance}
        await self._guards.ensure(own, afresh="bridge" not in there or not self._ruleset)
        if ruleset != self._ruleset or "inet" not in there:
            await nftables.apply(ruleset)
            self._ruleset = ruleset
        self._ports.note(chains)
        await self._ports.tidy()
        await self._names.ensure()
        problems = self._problems(chains)
        if problems != self._warned:
            for problem in problems:
                _log.warning("%s", problem)
            self._warned = problems

    def _bring_up(self, netlink: links.Netlink) -> tuple[set[str], set[str], set[IPv6Address]]:
        """Make or repair the bridge; returns the host's other interfaces with routes, for IPv4 and IPv6, and its own
        IPv6 addresses."""
        name = self._managed.name
        if not links.exists(name):
            netlink.add_bridge(name, self._hwaddr)
        elif not links.is_bridge(name) or links.hwaddr(name) != self._hwaddr:
            raise HostFailure(
                f"interface '{name}' exists already and was not made by this Bastide: guests can use it when it is a "
                f"bridge, but give the managed bridge another name (`up --bridge NAME`)"
            )
        for key, value in _own_settings(name):
            sysctl.try_write(key, value)
        wanted = {address for address in (self._managed.ipv4, self._managed.ipv6) if _possible(address)}
        present = {each.address for each in netlink.addresses(name) if not each.address.is_link_local}
        for address in present - wanted:
            netlink.delete_address(name, address)
        for address in wanted - present:
            netlink.add_address(name, address)
        netlink.set(name, state="up")
        routes = [route for route in netlink.routes() if not route.destination.is_link_local]
        outer: tuple[set[str], set[str]] = (set(), set())
        for route in routes:
            if route.interface not in (name, "lo"):
                outer[route.destination.version == 6].add(route.interface)
        # The link-local one comes with the first port, and must not be another's by then.
        own = {each.address.ip for each in netlink.addresses(name)} | {address_with(self._hwaddr, LINK_LOCAL)}
        return *outer, {address for address in own if isinstance(address, IPv6Address)}

    def _remove_bridge(self, netlink: links.Netlink) -> None:
        name = self._managed.name
        if links.exists(name) and links.hwaddr(name) == self._hwaddr:
            netlink.delete(name)

    async def _supervise(self) -> None:
        """Look again when dnsmasq ends or the kernel's routes, links or rules change; never give up."""
        events, failed, pause = netevents.NetEvents(), "", _SETTLE_SECONDS
        try:
            while True:
                await self._changed(events)
                await asyncio.sleep(_SETTLE_SECONDS)
                events.changed.clear()
                try:
                    async with self._lock:
                        await self._ensure()
                    failed, pause = "", _SETTLE_SECONDS
                except BastideError as error:
                    if str(error) != failed:
                        _log.error("the bridge '%s' could not be repaired: %s", self._managed.name, error)
                    failed = str(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _RETRY_SECONDS)
        finally:
            events.close()

    async def _changed(self, events: netevents.NetEvents) -> None:
        waiting = {asyncio.create_task(events.changed.wait()), asyncio.create_task(self._names.wait_ended())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def forgotten(layout: Layout) -> NatNetwork:
    """The network of a Bastide whose state is gone, to be stopped: its bridge is known by its hardware address."""
    seed = seed_of(layout.instance)
    own = (name for name in links.names() if links.hwaddr(name) == stable_hwaddr(f"{seed}/{name}"))
    return NatNetwork(layout, next(own, "none"), IPv4Interface("192.0.2.1/32"), IPv6Interface("2001:db8::1/128"))


def stable_hwaddr(seed: str) -> str:
    """A locally administered unicast address from a text; a fixed one keeps the bridge from taking its ports'."""
    return ":".join(f"{octet:02x}" for octet in b"\x02" + hashlib.sha256(seed.encode()).digest()[:5])


def _own_settings(bridge: str) -> list[tuple[str, str]]:
    """Settings of the bridge alone: guests tell it nothing about routes, and cannot send with a foreign source.

    Forwarding is among them so that it is on before the bridge has a route: another instance would take it for an
    interface of the host's whose forwarding is off.
    """
    return [
        (f"net/ipv4/conf/{bridge}/rp_filter", "1"),
        (f"net/ipv4/conf/{bridge}/accept_redirects", "0"),
        (f"net/ipv6/conf/{bridge}/disable_ipv6", "0"),
        (f"net/ipv6/conf/{bridge}/accept_ra", "0"),
        (f"net/ipv6/conf/{bridge}/autoconf", "0"),
        (f"net/ipv6/conf/{bridge}/accept_redirects", "0"),
        (f"net/ipv6/conf/{bridge}/accept_dad", "0"),
        (f"net/ipv6/conf/{bridge}/addr_gen_mode", "0"),
        (f"net/ipv4/conf/{bridge}/forwarding", "1"),
        (f"net/ipv6/conf/{bridge}/forwarding", "1"),
        (f"net/ipv6/conf/{bridge}/force_forwarding", "1"),
    ]


def _possible(address: IPv4Interface | IPv6Interface) -> bool:
    return address.version == 4 or sysctl.exists("net/ipv6/conf/all/forwarding")
