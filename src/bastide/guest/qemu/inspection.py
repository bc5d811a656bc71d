"""Live figures of a VM from control groups, /proc, its taps and its agent; no process is started."""

import asyncio
import contextlib
import ipaddress
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bastide.base.errors import BastideError, HostFailure
from bastide.guest.qemu.agent import Agent
from bastide.guest.qemu.figures import ask_figures
from bastide.guest.qemu.runtime import Vm
from bastide.host import tap
from bastide.model.guest import Address, Usage

_PAGE = os.sysconf("SC_PAGE_SIZE")
_AGENT_DEADLINE = 2.0
_ADDRESSES_KEPT = 5.0
_FIGURES_KEPT = 5.0
_MOST_ADDRESSES = 256


class Inspection(Agent):
    """The `Inspection` part of the engine."""

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """Counters of a running VM: memory is what its processes hold of the host's; disks as QEMU said last."""
        vm = self._runtime.find(vmid)
        if vm is None:
            return None
        self._refresh(vm)
        groups, group = self._runtime.groups, self._runtime.group(vmid)
        disks = [counters for key, counters in vm.disks.items() if not key.startswith("file-")]
        return Usage(
            cpu_seconds=groups.cpu_seconds(group),
            memory=_resident(vm.handle.pid) + (0 if vm.tpm is None else _resident(vm.tpm.pid)),
            swap=groups.memory(group)[1],
            disk_read=sum(one.read for one in disks),
            disk_written=sum(one.written for one in disks),
            processes=groups.process_count(group),
            pressure=groups.pressure(group) if stalls else {},
            oom_kills=groups.oom_kills(group) if stalls else None,
        )

    def _refresh(self, vm: Vm) -> None:
        """Ask QEMU in the background, so that the next look knows more; nobody waits for a QEMU that hangs."""
        now = time.monotonic()
        if now - vm.figures_asked >= _FIGURES_KEPT and vm.monitor.connected:
            vm.figures_asked = now
            # The sampler looks from a thread.
            self._runtime.spawn_from_thread(_refreshed(vm))

    async def addresses(self, vmid: int) -> Sequence[Address]:
        """Addresses on the guest's interfaces, without loopback's, as its agent says; none without an agent."""
        vm = self._runtime.find(vmid)
        if vm is None or not vm.launched.agent:
            return []
        async with vm.addresses_turn:
            if time.monotonic() - vm.addresses_asked >= _ADDRESSES_KEPT:
                vm.addresses = []
                with contextlib.suppress(BastideError):
                    answer = await self.ask(vmid, "guest-network-get-interfaces", deadline=_AGENT_DEADLINE)
                    vm.addresses = list(parse_interfaces(answer))
                vm.addresses_asked = time.monotonic()
            return vm.addresses

    def traffic(self, vmid: int) -> tuple[int, int]:
        """Bytes received and sent by the guest since it started, over all its taps."""
        vm = self._runtime.find(vmid)
        pairs = [] if vm is None else [tap.traffic(name) for name in vm.launched.taps.values()]
        return sum(received for received, _ in pairs), sum(sent for _, sent in pairs)


async def _refreshed(vm: Vm) -> None:
    with contextlib.suppress(HostFailure):
        await asyncio.wait_for(ask_figures(vm), _AGENT_DEADLINE)


def parse_interfaces(answer: Any) -> Iterator[Address]:
    """The addresses in an answer to guest-network-get-interfaces, which the guest may have made up."""
    count = 0
    for row in answer if isinstance(answer, list) else []:
        if not isinstance(row, Mapping) or row.get("name") == "lo":
            continue
        addresses = row.get("ip-addresses")
        for one in addresses if isinstance(addresses, list) else []:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                address = ipaddress.ip_interface(f"{one['ip-address']}/{int(one['prefix'])}")
                if not address.is_loopback and count < _MOST_ADDRESSES:
                    count += 1
                    yield Address(
                        interface=_plain(row.get("name")),
                        hwaddr=_plain(row.get("hardware-address")),
                        address=str(address.ip),
                        prefix=address.network.prefixlen,
                    )


def _plain(value: Any) -> str:
    return "".join(letter for letter in str(value or "")[:64] if letter.isprintable())


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds (proc(5), statm)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
