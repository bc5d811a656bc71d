"""A guest's network namespace, looked at and changed from a thread that enters it for the moment.

setns(2) of CLONE_NEWNET concerns the calling thread alone; a thread of the pool enters, works, and returns. Sources:
network_namespaces(7), rtnetlink(7), proc(5) for /proc/PID/net/dev.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, TypeVar, cast

from bastide.base.errors import HostFailure, WrongState
from bastide.host import syscalls
from bastide.model.container import NetworkInterface
from bastide.model.guest import Address

T = TypeVar("T")
# A netlink socket. pyroute2 is loaded at the first use, because it costs memory, and has no types worth the name.
Netlink = Any
_ONLINK = 4  # RTNH_F_ONLINK of linux/rtnetlink.h: the gateway need not lie in the interface's network


@contextlib.contextmanager
def entered(pid: int) -> Iterator[None]:
    """Let the calling thread be in the network namespace of a process. Raises WrongState when it has ended."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise WrongState("the guest does not run") from None
        try:
            syscalls.setns(there, syscalls.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


async def in_namespace(pid: int, work: Callable[[Netlink], T]) -> T:
    """Run `work` in a thread with a netlink socket of the process's network namespace. Raises HostFailure."""

    def enter() -> T:
        from pyroute2 import IPRoute  # noqa: PLC0415

        with entered(pid):
            netlink: Netlink = cast(Any, IPRoute)()
        with netlink:
            return work(netlink)

    try:
        return await asyncio.to_thread(enter)
    except OSError as error:
        raise HostFailure(f"cannot work in the guest's network: {error}") from error


async def addresses(pid: int) -> Sequence[Address]:
    """The addresses of a process's network namespace, loopback's included."""
    return await in_namespace(pid, _addresses)


def _addresses(netlink: Netlink) -> list[Address]:
    links = {
        link["index"]: (attribute(link, "IFLA_IFNAME"), attribute(link, "IFLA_ADDRESS")) for link in netlink.get_links()
    }
    result = []
    for item in netlink.get_addr():
        name, hwaddr = links.get(item["index"], ("", ""))
        text = attribute(item, "IFA_LOCAL") or attribute(item, "IFA_ADDRESS")
        result.append(Address(interface=name or "", hwaddr=hwaddr or "", address=text, prefix=item["prefixlen"]))
    return result


def attribute(message: Any, name: str) -> Any:
    """An attribute of a netlink message, or None."""
    return dict(message["attrs"]).get(name)


def traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent in a process's network namespace, without loopback; zeros when it has ended."""
    try:
        text = Path(f"/proc/{pid}/net/dev").read_text()
    except OSError:
        return 0, 0
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            values = counters.split()
            received += int(values[0])
            sent += int(values[8])
    return received, sent


async def add_veth(pid: int, host_end: str, name: str, hwaddr: str | None, mtu: int | None) -> None:
    """A new Ethernet pair: `host_end` here, `name` in the process's network namespace, both up. Raises HostFailure."""

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415

        peer: dict[str, Any] = {"ifname": name, "net_ns_pid": pid}
        options: dict[str, Any] = {}
        if hwaddr is not None:
            peer["address"] = hwaddr.lower()
        if mtu is not None:
            options["mtu"] = peer["mtu"] = mtu
        with cast(Any, IPRoute)() as netlink:
            netlink.link("add", ifname=host_end, kind="veth", peer=peer, **options)
            netlink.link("set", index=netlink.link_lookup(ifname=host_end)[0], state="up")

    def up(netlink: Netlink) -> None:
        netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")

    try:
        await asyncio.to_thread(work)
        await in_namespace(pid, up)
    except Exception as error:
        if isinstance(error, HostFailure):
            raise
        raise HostFailure(f"cannot add the interface {name}: {error}") from error


async def remove_link(name: str) -> None:
    """Remove an interface of the host, with its peer; one that is not there is fine. Raises HostFailure."""

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415

        with cast(Any, IPRoute)() as netlink:
            for index in netlink.link_lookup(ifname=name):
                netlink.link("del", index=index)

    try:
        await asyncio.to_thread(work)
    except Exception as error:
        raise HostFailure(f"cannot remove the interface {name}: {error}") from error


@contextlib.contextmanager
def _unless_present() -> Iterator[None]:
    """The guest's own network service may set the same in the moment between looking and acting."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


async def ensure_addresses(pid: int, nic: NetworkInterface) -> None:
    """Set an interface's static addresses and gateways where the guest itself has not. Raises HostFailure."""
    wanted = [text for text in (nic.ip, nic.ip6) if text is not None and "/" in text]
    if not wanted:
        return

    def work(netlink: Netlink) -> None:
        index = netlink.link_lookup(ifname=nic.name)[0]
        present = {
            attribute(item, "IFA_LOCAL") or attribute(item, "IFA_ADDRESS") for item in netlink.get_addr(index=index)
        }
        for text, gateway in ((nic.ip, nic.gw), (nic.ip6, nic.gw6)):
            if text is None or "/" not in text:
                continue
            interface = ip_interface(text)
            if str(interface.ip) in present:
                continue
            with _unless_present():
                netlink.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
            if gateway is not None:
                family = socket.AF_INET6 if interface.version == 6 else socket.AF_INET
                with _unless_present():
                    netlink.route("add", family=family, dst="default", gateway=gateway, oif=index, flags=_ONLINK)

    try:
        await in_namespace(pid, work)
    except Exception as error:
        if isinstance(error, HostFailure):
            raise
        raise HostFailure(f"cannot set the addresses of {nic.name}: {error}") from error
