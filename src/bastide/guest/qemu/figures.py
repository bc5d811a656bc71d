"""What QEMU counts: its disks, memory and virtual CPUs, as a VM's status tells them."""

import contextlib
from collections.abc import Mapping

from bastide.guest.qemu.events import BALLOON, drive_of
from bastide.guest.qemu.runtime import Vm
from bastide.guest.vm_protocol import DiskCounters, VmStatus
from bastide.host.qmp import CommandRefused


async def ask_figures(vm: Vm) -> None:
    """Disk counters, memory and virtual CPUs, noted in the VM. Raises HostFailure, DeadlineExceeded."""
    vm.disks = _disks(await vm.monitor.execute("query-blockstats"))
    vm.vcpus = len(await vm.monitor.execute("query-cpus-fast"))
    with contextlib.suppress(CommandRefused):
        vm.balloon = int((await vm.monitor.execute("query-balloon"))["actual"])
        answer = await vm.monitor.execute("qom-get", {"path": BALLOON, "property": "guest-stats"})
        figures: Mapping[str, int] = answer["stats"]
        free, total = figures.get("stat-free-memory", -1), figures.get("stat-total-memory", -1)
        # The driver's "unknown" is all bits set, which JSON shows as -1 or as 2^64-1.
        vm.guest_memory = (free, total) if 0 <= free < 2**63 and 0 < total < 2**63 else None


def _disks(answer: list[Mapping[str, object]]) -> dict[str, DiskCounters]:
    found = {}
    for row in answer:
        # A drive has a name by its device; nodes below it count on their own.
        name = str(row.get("qdev") or row.get("device") or row.get("node-name") or "")
        key = drive_of(name.removeprefix("/machine/peripheral/").split("/")[0])
        stats = row.get("stats")
        if key and isinstance(stats, dict):
            found[key] = DiskCounters(
                stats["rd_bytes"], stats["wr_bytes"], stats["rd_operations"], stats["wr_operations"]
            )
    return found


def status_of(vm: Vm, state: str) -> VmStatus:
    """What is known of a VM in that state."""
    free, total = vm.guest_memory or (None, None)
    return VmStatus(
        state=state,
        accelerator=vm.launched.accelerator,
        machine=vm.launched.machine,
        qemu=vm.launched.qemu,
        balloon=vm.balloon,
        guest_free=free,
        guest_total=total,
        vcpus=vm.vcpus,
        disks=vm.disks,
        error=vm.error,
    )
