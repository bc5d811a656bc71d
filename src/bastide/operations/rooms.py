"""What an operation works with. `daemon/` builds it once; operations receive it as their first argument."""

import asyncio
from dataclasses import dataclass, field

from bastide.access.access import Access
from bastide.base.layout import Layout
from bastide.guest.engines import Engines
from bastide.guest.protocol import ContainerEngine, Engine
from bastide.guest.registry import Guests
from bastide.guest.vm_protocol import VmEngine
from bastide.metrics.sampler import Sampler
from bastide.model.guest import Guest
from bastide.network.protocol import Network
from bastide.operations.backup.views import Views
from bastide.state.store import Store
from bastide.storage.registry import Storages
from bastide.tasks.locks import GuestLocks
from bastide.tasks.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms that operations join.

    `making` holds the locks of bases, by their places in the store: each is made or removed by one task at a time.
    `views` are the disks of backups that are being looked into.
    """

    node: str
    layout: Layout
    store: Store
    tasks: Tasks
    locks: GuestLocks
    guests: Guests
    engines: Engines
    storages: Storages
    network: Network
    sampler: Sampler
    access: Access
    making: dict[str, asyncio.Lock] = field(default_factory=dict)
    views: Views = field(default_factory=Views)

    @property
    def containers(self) -> ContainerEngine:
        """The engine of containers."""
        return self.engines.containers

    @property
    def vms(self) -> VmEngine:
        """The engine of VMs."""
        return self.engines.vms

    def engine(self, guest: Guest) -> Engine:
        """The engine of a guest of either kind, for what both have in common."""
        return self.engines.of(guest.kind)
