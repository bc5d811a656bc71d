"""What runs in guests: of a container the kernel is asked, of a VM its agent. Nothing is started in either.

What is in a guest may be made up by whoever is in it. So it is read as data, bounded in size and time, and decides
nothing but what a review says of this one guest.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure
from bastide.base.units import KIB
from bastide.host import guest_looks
from bastide.host.guest_looks import IpAddress, Listener
from bastide.model.guest import Address, Guest
from bastide.model.review import Inside
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent

ANSWER_SECONDS, AGENT_SECONDS = 5.0, 20.0
"""How long a VM's agent may take for one answer, so that one that hangs costs little, and for all of them: some 25, of
which each takes half a second in an emulated VM on a busy machine."""

# A process's name ends after 15 characters (proc(5), comm).
_ENGINES = {
    "dockerd": "docker", "containerd": "containerd", "podman": "podman", "conmon": "podman", "crio": "cri-o",
    "kubelet": "kubernetes", "k3s-server": "kubernetes", "k3s-agent": "kubernetes", "k0s": "kubernetes",
    "incusd": "incus", "lxd": "lxd", "qemu-system-x86": "a hypervisor", "qemu-system-aar": "a hypervisor",
}  # fmt: skip
_NFS_SERVERS = ("rpc.mountd", "ganesha.nfsd")
_BRIDGES = {
    "docker": "docker", "podman": "podman", "cni": "kubernetes", "flannel": "kubernetes",
    "cali": "kubernetes", "lxdbr": "lxd", "incusbr": "incus", "virbr": "a hypervisor",
}  # fmt: skip
_LAYERS = {"/docker/": "docker", "/containers/storage/": "podman", "/containerd/": "containerd"}
_NFS_PORT = 2049
_FILE_LIMIT = 256 * KIB
_MOST = 16
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))


async def containers(rooms: Rooms, vmids: Iterable[int]) -> dict[int, Inside]:
    """What runs in the running ones of these containers, by vmid."""
    inits = {vmid: pid for vmid in vmids if (pid := rooms.containers.init_pid(vmid)) is not None}
    looks = await asyncio.to_thread(guest_looks.look, inits, [*_ENGINES, *_NFS_SERVERS])
    found: dict[int, Inside] = {}
    for vmid, seen in looks.items():
        addresses: Sequence[Address] = ()
        if any(_may_be_public(one.address) for one in seen.listeners):
            with contextlib.suppress(BastideError, OSError):
                addresses = await rooms.containers.addresses(vmid)
        found[vmid] = Inside(
            engines=_distinct(_ENGINES[name] for name in sorted(seen.processes) if name in _ENGINES),
            nfs_server=not seen.processes.isdisjoint(_NFS_SERVERS) or _serves_nfs(seen.listeners),
            nfs_mounts=seen.nfs_mounts[:_MOST],
            public=public_listeners(seen.listeners, (one.address for one in addresses)),
        )
    return found


async def vm(rooms: Rooms, guest: Guest) -> tuple[Inside | None, str]:
    """What a running VM's agent tells, or None and why it does not."""
    if not VmConfig.parse(guest.config).agent_enabled:
        return None, "it has no agent that could be asked"
    try:
        async with asyncio.timeout(AGENT_SECONDS):
            return await _told(rooms, guest.vmid), ""
    except (TimeoutError, DeadlineExceeded) as error:
        seconds = ANSWER_SECONDS if isinstance(error, DeadlineExceeded) else AGENT_SECONDS
        return None, f"its agent did not tell within {seconds:g} seconds"
    except (BastideError, OSError) as error:
        return None, _printable(str(error))


async def _told(rooms: Rooms, vmid: int) -> Inside:
    system = await agent.ask(rooms, vmid, "guest-get-osinfo", deadline=ANSWER_SECONDS)
    name = str(system.get("id", "")) if isinstance(system, Mapping) else ""
    disk = _root(await _asked(rooms, vmid, "guest-get-fsinfo"))
    if name == "mswindows" or "bsd" in name:
        return Inside(linux=False, disk_used=disk[0], disk_size=disk[1])
    mounts = await _text(rooms, vmid, "/proc/self/mountinfo")
    modules = await _text(rooms, vmid, "/proc/modules")
    memory = _numbers(await _text(rooms, vmid, "/proc/meminfo"))
    events = _numbers(await _text(rooms, vmid, "/proc/vmstat"))
    sockets = [await _text(rooms, vmid, f"/proc/self/net/{name}") for name in ("tcp", "tcp6")]
    listeners = [one for text in sockets for one in guest_looks.parse_listeners(text)]
    addresses = await rooms.vms.addresses(vmid)
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    return Inside(
        engines=_distinct([*_engines_by_traces(addresses, mounts), *_hypervisor(modules)]),
        nfs_server=_serves_nfs(listeners),
        nfs_mounts=guest_looks.parse_nfs_mounts(mounts)[:_MOST],
        public=public_listeners(listeners, (one.address for one in addresses)),
        modules=foreign_modules(modules),
        # A kernel that shows nothing of itself is not one to judge by.
        linux=bool(mounts and total),
        memory_total=None if total is None else total * KIB,
        memory_available=None if available is None else available * KIB,
        oom_kills=events.get("oom_kill"),
        disk_used=disk[0],
        disk_size=disk[1],
    )


def public_listeners(listeners: Iterable[Listener], addresses: Iterable[str]) -> tuple[str, ...]:
    """Where the sockets can be reached at a public address of the guest's: `203.0.113.5:443`, `[2001:db8::5]:443`."""
    own: list[IpAddress] = []
    for text in addresses:
        with contextlib.suppress(ValueError):
            own.append(ip_address(text))
    found: set[tuple[IpAddress, int]] = set()
    for one in listeners:
        for address in own:
            # A socket at :: takes IPv4 as well, unless its program forbade it.
            everywhere = one.address.is_unspecified and (one.address.version == 6 or address.version == 4)
            if is_public(address) and (everywhere or one.address == address):
                found.add((address, one.port))
    ordered = sorted(found, key=lambda one: (one[0].version, int(one[0]), one[1]))
    return tuple(
        f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}" for address, port in ordered[:_MOST]
    )


def is_public(address: IpAddress) -> bool:
    """Whether an address is neither private (RFC 1918, 6598, 4193) nor of this link or host only."""
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return not any(address in network for network in _PRIVATE)


def foreign_modules(text: str) -> tuple[str, ...]:
    """The modules in the text of a /proc/modules that were built outside the kernel's tree (taint flag O)."""
    found = []
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) > 1 and re.fullmatch(r"\([A-Z+-]*O[A-Z+-]*\)", fields[-1]):
            found.append(_printable(fields[0]))
    return tuple(found[:_MOST])


def _may_be_public(address: IpAddress) -> bool:
    return address.is_unspecified or is_public(address)


def _serves_nfs(listeners: Iterable[Listener]) -> bool:
    """The kernel's own server has no process in the guest, but its port is there."""
    return any(one.port == _NFS_PORT for one in listeners)


def _engines_by_traces(addresses: Iterable[Address], mounts: str) -> list[str]:
    """Engines by the bridges that they make and the layers that they mount: an agent lists no processes."""
    found = [engine for one in addresses for start, engine in _BRIDGES.items() if one.interface.startswith(start)]
    for line in mounts.split("\n"):
        if " - overlay " in line:
            found += [engine for part, engine in _LAYERS.items() if part in line]
    return found


def _hypervisor(modules: str) -> list[str]:
    used = re.search(r"^kvm_(?:intel|amd) \d+ [1-9]", modules, re.MULTILINE | re.ASCII)
    return ["a hypervisor"] if used else []


async def _asked(rooms: Rooms, vmid: int, command: str) -> Any:
    """An answer, or None from an agent that does not know the command."""
    try:
        return await agent.ask(rooms, vmid, command, deadline=ANSWER_SECONDS)
    except HostFailure:
        return None


async def _text(rooms: Rooms, vmid: int, path: str) -> str:
    """A file's text; empty when the guest has none or keeps it from its agent."""
    try:
        return str((await agent.read_file(rooms, vmid, path, count=_FILE_LIMIT))["content"])
    except HostFailure:
        return ""


def _numbers(text: str) -> dict[str, int]:
    """`Name: 12 kB` and `name 12` lines."""
    return {found[1]: int(found[2]) for found in re.finditer(r"^(\w+):?\s+(\d{1,15})\b", text, re.MULTILINE | re.ASCII)}


def _root(filesystems: Any) -> tuple[int | None, int | None]:
    """Bytes used of the root file system, and its size, from an answer to guest-get-fsinfo."""
    for row in filesystems if isinstance(filesystems, list) else []:
        if isinstance(row, Mapping) and row.get("mountpoint") in ("/", "C:\\"):
            used, size = row.get("used-bytes"), row.get("total-bytes")
            if isinstance(used, int) and isinstance(size, int) and 0 <= used <= size:
                return used, size
    return None, None


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])
