"""The engines of both kinds of guest side by side."""

from dataclasses import dataclass

from bastide.guest.protocol import ContainerEngine, Engine
from bastide.guest.vm_protocol import VmEngine
from bastide.model.guest import Kind, Usage


@dataclass(frozen=True, slots=True)
class Engines:
    """A vmid is a container's or a VM's, so that whichever engine runs it speaks for it."""

    containers: ContainerEngine
    vms: VmEngine

    def of(self, kind: Kind) -> Engine:
        """The engine of a kind of guest."""
        return self.containers if kind == "lxc" else self.vms

    def running(self) -> frozenset[int]:
        """The guests of both kinds that run or are paused."""
        return self.containers.running() | self.vms.running()

    def ended(self) -> frozenset[int]:
        """The guests of both kinds that ended and that nobody has cleaned up after."""
        return self.containers.ended() | self.vms.ended()

    def started_at(self, vmid: int) -> float | None:
        """When a running guest started, in seconds since the epoch."""
        return self._running(vmid).started_at(vmid)

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """A running guest's counters."""
        return self._running(vmid).usage(vmid, stalls=stalls)

    def traffic(self, vmid: int) -> tuple[int, int]:
        """Bytes that a running guest received and sent."""
        return self._running(vmid).traffic(vmid)

    def _running(self, vmid: int) -> Engine:
        return self.vms if vmid in self.vms.running() else self.containers
