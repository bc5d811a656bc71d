"""Network interfaces of this machine: a quick look through /sys, everything else through netlink (rtnetlink(7)).

pyroute2 is loaded at the first use, because it costs memory and most commands need none of it. Its calls block for
about a millisecond, hence the threads. Functions raise HostFailure with the kernel's word, NotFound for an interface
that is not there.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

from bastide.base.errors import HostFailure, NotFound

_SYS = Path("/sys/class/net")
_MAIN_TABLE = 254
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8  # netdevice(7)
_IFA_F_PERMANENT, _IFA_F_NODAD = 0x80, 0x02  # <linux/if_addr.h>
_PVID_UNTAGGED = 0x2 | 0x4  # <linux/if_bridge.h> BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED
_NUD_ANSWERED = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # <linux/neighbour.h> REACHABLE, STALE, DELAY, PROBE, PERMANENT
_UNICAST = 1  # <linux/rtnetlink.h> RTN_UNICAST
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table. `gateway` is None for a network on the link itself."""

    destination: IPv4Network | IPv6Network
    interface: str
    gateway: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `kind` is the kernel's word (`bridge`, `bond`, `vlan`, `veth`, `tun`), empty for hardware."""

    name: str
    kind: str
    up: bool
    loopback: bool
    mtu: int
    master: str | None
    lower: str | None
    vlan_id: int | None


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface; `dynamic` when it has an end (DHCP, router advertisements)."""

    interface: str
    address: IPv4Interface | IPv6Interface
    dynamic: bool


def exists(name: str) -> bool:
    """Whether the machine has the interface."""
    return (_SYS / name).exists()


def names() -> list[str]:
    """Names of all interfaces."""
    return os.listdir(_SYS)


def is_bridge(name: str) -> bool:
    """Whether the interface is a bridge of the kernel's."""
    return (_SYS / name / "bridge").is_dir()


def bridges() -> list[str]:
    """Names of all bridges, sorted."""
    return sorted(name for name in os.listdir(_SYS) if is_bridge(name))


def mtu(name: str) -> int:
    """Largest packet of the interface in bytes. Raises NotFound."""
    return int(_attribute(name, "mtu"))


def hwaddr(name: str) -> str:
    """Hardware address in lower case. Raises NotFound."""
    return _attribute(name, "address")


def vlan_filtering(bridge: str) -> bool:
    """Whether the bridge tells VLANs apart; False too when the kernel cannot (CONFIG_BRIDGE_VLAN_FILTERING)."""
    with contextlib.suppress(OSError):
        return (_SYS / bridge / "bridge" / "vlan_filtering").read_text().strip() == "1"
    return False


def can_filter_vlans(bridge: str) -> bool:
    """Whether this kernel's bridges know VLANs at all."""
    return (_SYS / bridge / "bridge" / "vlan_filtering").exists()


def bridge_of(name: str) -> str | None:
    """The bridge that an interface is a port of, or None."""
    with contextlib.suppress(OSError):
        return Path(os.readlink(_SYS / name / "master")).name
    return None


def _attribute(name: str, attribute: str) -> str:
    try:
        return (_SYS / name / attribute).read_text().strip()
    except OSError as error:
        raise NotFound(f"interface '{name}' does not exist") from error


def primary_address() -> str | None:
    """The address that this machine uses towards the world: IPv4 before IPv6, None without a default route.

    Nothing is sent: connecting a datagram socket only asks the routing table.
    """
    for family, target in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect((target, 9))
            return str(sock.getsockname()[0])
    return None


class Netlink:
    """An open rtnetlink socket; see `netlink()`. Not for more than one thread."""

    def __init__(self, ipr: Any) -> None:
        self._ipr = ipr

    def links(self) -> list[Link]:
        """Every interface, in the kernel's order."""
        messages = list(self._ipr.get_links())
        names = {message["index"]: str(message.get_attr("IFLA_IFNAME")) for message in messages}
        return [_link(message, names) for message in messages]

    def index(self, name: str) -> int:
        """Interface number. Raises NotFound."""
        try:
            return socket.if_nametoindex(name)
        except OSError as error:
            raise NotFound(f"interface '{name}' does not exist") from error

    def add_bridge(self, name: str, hwaddr: str) -> None:
        """Make a bridge that forwards at once (no spanning tree, no delay), with a fixed hardware address."""
        self._ipr.link("add", ifname=name, kind="bridge", address=hwaddr, br_stp_state=0, br_forward_delay=0)

    def delete(self, name: str) -> None:
        """Remove an interface; one that is gone is fine."""
        with contextlib.suppress(NotFound):
            self._ipr.link("del", index=self.index(name))

    def set(self, name: str, **values: Any) -> None:
        """Change an interface: `state` up or down, `mtu`, `master` (an interface number, 0 for none)."""
        self._ipr.link("set", index=self.index(name), **values)

    def addresses(self, name: str | None = None) -> list[Address]:
        """Addresses of one interface or of all; link-local ones too."""
        found = []
        for message in self._ipr.get_addr(**({"index": self.index(name)} if name else {})):
            # IFA_LOCAL is the own address on point-to-point links, where IFA_ADDRESS is the peer's.
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            with contextlib.suppress(OSError):
                device = socket.if_indextoname(message["index"])
                value = ip_interface(f"{address}/{message['prefixlen']}")
                found.append(Address(device, value, not flags & _IFA_F_PERMANENT))
        return found

    def neighbours(self, name: str) -> list[tuple[str, str]]:
        """(hardware address in upper case, address) of all that answered on an interface; link-local ones too."""
        index = self.index(name)
        return [
            (str(message.get_attr("NDA_LLADDR")).upper(), str(message.get_attr("NDA_DST")))
            for message in self._ipr.get_neighbours()
            if message["ifindex"] == index and message["state"] & _NUD_ANSWERED
        ]

    def add_address(self, name: str, address: IPv4Interface | IPv6Interface) -> None:
        """Give an interface an address, usable at once: without looking for a duplicate (IFA_F_NODAD)."""
        options: dict[str, Any] = {"address": str(address.ip), "prefixlen": address.network.prefixlen}
        if isinstance(address, IPv4Interface):
            options["broadcast"] = str(address.network.broadcast_address)
        else:
            options["flags"] = _IFA_F_NODAD
        with contextlib.suppress(FileExistsError):
            self._ipr.addr("add", index=self.index(name), **options)

    def delete_address(self, name: str, address: IPv4Interface | IPv6Interface) -> None:
        """Take an address from an interface."""
        self._ipr.addr("del", index=self.index(name), address=str(address.ip), prefixlen=address.network.prefixlen)

    def routes(self) -> list[Route]:
        """Unicast routes of the main table, of both families; one with several next hops gives one for each."""
        found: list[Route] = []
        for message in self._ipr.get_routes(table=_MAIN_TABLE):
            if message["type"] != _UNICAST or message["family"] not in (socket.AF_INET, socket.AF_INET6):
                continue
            everything = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104 - not a listener
            target = ip_network(f"{message.get_attr('RTA_DST') or everything}/{message['dst_len']}", strict=False)
            hops = message.get_attr("RTA_MULTIPATH") or [message]
            for hop in hops:
                index = hop.get_attr("RTA_OIF") if hop is message else hop["oif"]
                gateway = hop.get_attr("RTA_GATEWAY")
                with contextlib.suppress(OSError, TypeError):
                    found.append(Route(target, socket.if_indextoname(index), gateway))
        return found

    def limit_towards(self, name: str, bytes_per_second: int | None) -> None:
        """Shape what is sent out of an interface (tc-tbf(8)), or lift the limit (None)."""
        index = self.index(name)
        if bytes_per_second is None:
            with contextlib.suppress(OSError, self._error()):
                self._ipr.tc("del", index=index, root=True)
            return
        # tbf drops what is larger than its burst, and veth carries segments of up to 64 KiB: at least 1 MiB.
        burst = max(bytes_per_second // 10, 1024 * 1024)
        self._ipr.tc("replace", "tbf", index, 0x10000, rate=bytes_per_second, burst=burst, latency="50ms")

    def set_port_vlans(self, name: str, tag: int | None, trunks: Sequence[int] = ()) -> None:
        """Make a bridge port carry exactly these VLANs: `tag` untagged (1, the kernel's own, without one)."""
        index = self.index(name)
        native = 1 if tag is None else tag
        self._ipr.vlan_filter("del", index=index, vlan_info={"vid": "1-4094"})
        self._ipr.vlan_filter("add", index=index, vlan_info={"vid": native, "flags": _PVID_UNTAGGED})
        for vid in sorted(set(trunks) - {native}):
            self._ipr.vlan_filter("add", index=index, vlan_info={"vid": vid})

    @staticmethod
    def _error() -> type[Exception]:
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - loaded at the first use

        return NetlinkError


def _link(message: Any, names: dict[int, str]) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = str(info.get_attr("IFLA_INFO_KIND") or "") if info else ""
    data = info.get_attr("IFLA_INFO_DATA") if info and kind == "vlan" else None
    return Link(
        name=str(message.get_attr("IFLA_IFNAME")),
        kind=kind,
        up=bool(message["flags"] & _IFF_UP),
        loopback=bool(message["flags"] & _IFF_LOOPBACK),
        mtu=int(message.get_attr("IFLA_MTU")),
        master=names.get(message.get_attr("IFLA_MASTER")),
        lower=names.get(message.get_attr("IFLA_LINK")),
        vlan_id=int(data.get_attr("IFLA_VLAN_ID")) if data else None,
    )


@contextlib.contextmanager
def netlink() -> Iterator[Netlink]:
    """Open a netlink socket. The kernel's refusals inside the block become HostFailure."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - loaded at the first use
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        with IPRoute() as ipr:
            yield Netlink(ipr)
    except NetlinkError as error:
        raise HostFailure(f"the kernel refused a change of the network: {_reason(error)}") from error


def _reason(error: Any) -> str:
    code = abs(int(error.code))
    text = os.strerror(code)
    return f"{text}: this kernel lacks the feature" if code in (errno.EOPNOTSUPP, errno.ENOENT) else text


async def with_netlink(action: Callable[[Netlink], T]) -> T:
    """Run an action with an open netlink socket in a thread."""

    def work() -> T:
        with netlink() as link:
            return action(link)

    return await asyncio.to_thread(work)
