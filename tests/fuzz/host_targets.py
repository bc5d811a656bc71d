"""Fuzzed: what programs, the kernel, QEMU and guests answer."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bastide.base.errors import HostFailure
from bastide.guest.lxc.ids import parse_subordinate
from bastide.guest.lxc.limits import parse_cpus
from bastide.guest.qemu.agent import Conversation
from bastide.guest.qemu.inspection import parse_interfaces as agent_interfaces
from bastide.host import (
    apt,
    block_devices,
    cgroups,
    facts,
    filesystems,
    guest_looks,
    iscsi,
    ldap,
    ldap_filter,
    lvm,
    mount_units,
    nbd,
    pci,
    qemu_facts,
    qemu_firmware,
    rbd,
    scans,
    service_probe,
    smart,
    smb,
    volume_groups,
    zfs,
    zpools,
)
from bastide.network.interfaces import parse_interfaces
from bastide.network.names import parse_leases
from fuzz.registry import target, text, wait

_TEXTS: dict[str, tuple[Callable[[str], object], tuple[type[BaseException], ...]]] = {
    "mountinfo": (filesystems.parse_mountinfo, ()),
    "cgroups": (cgroups.Cgroups.parse, ()),
    "cpuinfo": (facts.parse_cpuinfo, ()),
    "cpu-list": (qemu_facts.parse_cpu_list, ()),
    "cpu-set": (parse_cpus, ()),
    "subuid": (parse_subordinate, ()),
    "lsblk": (block_devices.parse_lsblk, (HostFailure,)),
    "blkid": (block_devices.parse_blkid, ()),
    "lvs": (lvm.parse_volumes, (HostFailure,)),
    "vgs": (lvm.parse_groups, (HostFailure,)),
    "pvs": (volume_groups.parse_groups, (HostFailure,)),
    "thin-pools": (volume_groups.parse_pools, (HostFailure,)),
    "zfs-list": (zfs.parse_datasets, (HostFailure,)),
    "zpool-list": (zpools.parse_list, (HostFailure,)),
    "zpool-status": (zpools.parse_status, (HostFailure,)),
    "smartctl": (smart.parse, (HostFailure,)),
    "rbd-images": (lambda told: rbd.parse_images(told, "rbd"), (HostFailure,)),
    "rbd-snapshots": (rbd.parse_snapshots, (HostFailure,)),
    "rbd-mapped": (rbd.parse_mapped, (HostFailure,)),
    "ceph-df": (lambda told: rbd.parse_space(told, "rbd"), (HostFailure, rbd.NotFound)),
    "smbclient": (smb.parse_shares, ()),
    "iscsi-targets": (iscsi.parse_targets, ()),
    "iscsi-sessions": (iscsi.parse_sessions, ()),
    "apt-list": (apt.parse_one_line, ()),
    "apt-sources": (apt.parse_deb822, ()),
    "nfs-exports": (scans.parse_exports, ()),
    "mount-unit": (mount_units.parse, ()),
    "interfaces": (parse_interfaces, ()),
    "leases": (parse_leases, ()),
    "firmware": (qemu_firmware.parse_descriptor, ()),
    "guest-listeners": (guest_looks.parse_listeners, ()),
    "guest-mounts": (guest_looks.parse_nfs_mounts, ()),
    "pci-ids": (lambda told: pci.parse_ids(told.splitlines(keepends=True)), ()),
}


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(text(data))


for _name, (_parse, _errors) in _TEXTS.items():
    target(_name, *_errors)(_text(_parse))


@target("qmp", HostFailure)
def qmp(data: bytes) -> None:
    """A conversation with an emulator that is asked what it can do."""
    answers = qemu_facts.parse_answers(text(data))
    qemu_facts.parse_emulator(Path("/usr/bin/qemu-system-x86_64"), [answers.get(number) for number in range(7)])


@target("agent-interfaces", ValueError, RecursionError)
def interfaces_of_agent(data: bytes) -> None:
    """Addresses that a guest's agent tells, which the guest may have made up."""
    for address in agent_interfaces(json.loads(data)):
        assert address.interface.isprintable()
        assert address.hwaddr.isprintable()


async def _asked(data: bytes) -> Any:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        writing = asyncio.create_task(asyncio.get_running_loop().sock_sendall(there, data))
        writing.add_done_callback(lambda _: there.shutdown(socket.SHUT_WR))
        try:
            return await Conversation(here).ask("guest-info", None)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


@target("agent", HostFailure)
def agent(data: bytes) -> None:
    """A guest agent's answer to a command."""
    wait(_asked(data))


@target("dns-answer", HostFailure)
def dns_answer(data: bytes) -> None:
    """An answer of a name server that a guest runs."""
    service_probe.check_dns_answer(service_probe.dns_query("example.org", 7), data)


@target("ntp-answer", HostFailure)
def ntp_answer(data: bytes) -> None:
    """An answer of a time server that a guest runs."""
    service_probe.check_ntp_answer(service_probe.ntp_query(bytes(8)), data)


@target("nbd", OSError)
def nbd_replies(data: bytes) -> None:
    """A server of disks: what it says in the negotiation, to a read and to a question for zeros."""
    here, there = socket.socketpair()
    with here, there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        there.settimeout(0.2)
        there.sendall(data[: 1 << 17])
        there.shutdown(socket.SHUT_WR)
        with nbd.NbdClient(here, "disk", timeout=2) as client:
            length = min(client.size, 4096)
            assert len(client.read(0, length)) == length
            if length:
                assert 0 < sum(size for size, _ in client.block_status(0, length)) <= length


@target("ldap-filter", ValueError)
def written_filter(data: bytes) -> None:
    """Filters that administrators write."""
    assert ldap_filter.parse(text(data))


@target("ldap", HostFailure)
def directory(data: bytes) -> None:
    """A directory's answers to a login and a search."""
    wait(_searched(data))


async def _searched(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    here, there = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=here)
    with there, contextlib.closing(writer):
        talk = ldap.Directory(reader, writer, "directory")
        talk._number = 0  # by chance elsewhere, which no seed could know
        if await talk.bind("cn=admin", "secret"):
            assert all(isinstance(one.dn, str) for one in await talk.search("dc=test", ldap_filter.present("uid")))
