"""A guest's network namespace, looked at and changed from a thread that enters it for the moment.

setns(2) of CLONE_NEWNET concerns the calling thread alone; a thread of the pool enters, works, and returns. Sources:
network_namespaces(7), rtnetlink(7), proc(5) for /proc/PID/net/dev.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute

from bastide.base.errors import HostFailure, WrongState
from bastide.host import syscalls
from bastide.model.guest import Address

T = TypeVar("T")


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


async def in_namespace(pid: int, work: Callable[[IPRoute], T]) -> T:
    """Run `work` in a thread with a netlink socket of the process's network namespace. Raises HostFailure."""

    def enter() -> T:
        with entered(pid):
            netlink = IPRoute()
        with netlink:
            return work(netlink)

    try:
        return await asyncio.to_thread(enter)
    except OSError as error:
        raise HostFailure(f"cannot work in the guest's network: {error}") from error


async def addresses(pid: int) -> Sequence[Address]:
    """The addresses of a process's network namespace, loopback's included."""
    return await in_namespace(pid, _addresses)


def _addresses(netlink: IPRoute) -> list[Address]:
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
