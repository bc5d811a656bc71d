"""What an operation works with. `daemon/` builds it once; operations receive it as their first argument."""

from dataclasses import dataclass

from bastide.access.access import Access
from bastide.base.layout import Layout
from bastide.guest.protocol import ContainerEngine
from bastide.guest.registry import Guests
from bastide.metrics.sampler import Sampler
from bastide.network.protocol import Network
from bastide.state.store import Store
from bastide.storage.registry import Storages
from bastide.tasks.locks import GuestLocks
from bastide.tasks.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms that operations join."""

    node: str
    layout: Layout
    store: Store
    tasks: Tasks
    locks: GuestLocks
    guests: Guests
    containers: ContainerEngine
    storages: Storages
    network: Network
    sampler: Sampler
    access: Access
