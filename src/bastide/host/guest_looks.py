"""What a container runs, where it listens and what it mounts, from the kernel's own files.

Nothing is run inside and no path of the guest's is followed: only /proc is read, each file up to a limit. The names and
mount points in it are the guest's to choose, and are cleaned.
Sources: proc(5) for /proc/PID/comm, mountinfo and net/tcp; pid_namespaces(7).
"""

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

PROC = Path("/proc")
READ_LIMIT = 4 * 1024 * 1024
"""Bytes of one file that are read: some 25,000 sockets, or as many mounts."""

_LISTEN = "0A"  # TCP_LISTEN of the kernel's tcp_states.h
_NFS = ("nfs", "nfs4")
_MOST = 64

IpAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP socket that takes connections: at an address of the guest's, or at all of them (0.0.0.0, ::)."""

    address: IpAddress
    port: int


@dataclass(frozen=True, slots=True)
class Looks:
    """A container: which of the asked process names run in it, where it listens, where it mounts NFS."""

    processes: frozenset[str] = frozenset()
    listeners: tuple[Listener, ...] = ()
    nfs_mounts: tuple[str, ...] = ()


def look(inits: Mapping[int, int], names: Collection[str], proc: Path = PROC) -> dict[int, Looks]:
    """Look into containers: `inits` maps each vmid to its first process, `names` are those of processes to look for.

    A container that has ended meanwhile is absent.
    """
    found: dict[int, Looks] = {}
    spaces: dict[int, int] = {}
    for vmid, pid in inits.items():
        with contextlib.suppress(OSError):
            folder = os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                spaces[vmid] = os.stat("ns/pid", dir_fd=folder).st_ino
                listeners = [
                    *parse_listeners(_read(folder, "net/tcp")),
                    *parse_listeners(_read(folder, "net/tcp6")),
                ]
                found[vmid] = Looks(frozenset(), tuple(listeners), parse_nfs_mounts(_read(folder, "mountinfo")))
            finally:
                os.close(folder)
    running = _processes(set(spaces.values()), frozenset(names), proc)
    return {
        vmid: Looks(frozenset(running.get(spaces[vmid], ())), one.listeners, one.nfs_mounts)
        for vmid, one in found.items()
    }


def parse_listeners(text: str) -> tuple[Listener, ...]:
    """The listening sockets in the text of a /proc/PID/net/tcp or tcp6, each once, without loopback's."""
    found: dict[Listener, None] = {}
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTEN:
            with contextlib.suppress(ValueError, struct.error):
                host, _, port = fields[1].partition(":")
                listener = Listener(_address(host), int(port, 16))
                if not listener.address.is_loopback:
                    found[listener] = None
    return tuple(found)


def parse_nfs_mounts(text: str) -> tuple[str, ...]:
    """The mount points of NFS in the text of a mountinfo, printable, the first of them."""
    found: dict[str, None] = {}
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right.split(" ")[0] in _NFS:
            found[_printable(fields[4])] = None
    return tuple(found)[:_MOST]


def _address(text: str) -> IpAddress:
    """Words of 32 bits, each as this processor keeps it in memory."""
    data = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if len(data) == 4:
        return IPv4Address(data)
    address = IPv6Address(socket.inet_ntop(socket.AF_INET6, data))
    return address.ipv4_mapped or address


def _processes(spaces: Collection[int], names: Collection[str], proc: Path) -> dict[int, set[str]]:
    """The asked names that run in each of the process id namespaces, by its inode."""
    found: dict[int, set[str]] = {}
    for pid in _numbers(proc):
        with contextlib.suppress(OSError):
            name = (proc / pid / "comm").read_text(errors="replace").rstrip("\n")
            if name in names and (space := os.stat(proc / pid / "ns/pid").st_ino) in spaces:
                found.setdefault(space, set()).add(name)
    return found


def _numbers(proc: Path) -> Iterator[str]:
    yield from (name for name in os.listdir(proc) if name.isdecimal())


def _read(folder: int, name: str) -> str:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:  # a kernel without IPv6
        return ""
    parts, left = [], READ_LIMIT
    with open(descriptor, "rb", buffering=0) as file:
        while left > 0 and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts).decode(errors="replace")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])
