"""Live figures of a container from control groups and /proc; no process is started."""

from collections.abc import Sequence

from bastide.guest.lxc.runtime import Runtime
from bastide.host import netns
from bastide.model.guest import Address, Usage


class Inspection:
    """The `Inspection` part of the engine."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """Counters of a running guest, or None."""
        if self._runtime.monitor(vmid) is None:
            return None
        groups, group = self._runtime.groups, self._runtime.group(vmid)
        memory, swap = groups.memory(group)
        read, written = groups.disk(group)
        return Usage(
            cpu_seconds=groups.cpu_seconds(group),
            memory=memory,
            swap=swap,
            disk_read=read,
            disk_written=written,
            processes=groups.process_count(group),
            pressure=groups.pressure(group) if stalls else {},
            oom_kills=groups.oom_kills(group) if stalls else None,
        )

    async def addresses(self, vmid: int) -> Sequence[Address]:
        """Addresses on the guest's interfaces, without loopback's; none when it does not run."""
        pid = self._runtime.init_pid(vmid)
        if pid is None:
            return []
        return [found for found in await netns.addresses(pid) if found.interface != "lo"]

    def traffic(self, vmid: int) -> tuple[int, int]:
        """Bytes received and sent since it started."""
        pid = self._runtime.init_pid(vmid)
        return (0, 0) if pid is None else netns.traffic(pid)
