"""What the API's handlers work with. `daemon/` builds it once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bastide.access.access import Access
from bastide.metrics.sampler import Sampler
from bastide.operations.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms, the access control and the metrics behind the API.

    `address` is where the API listens, `port` its TCP port, `bridge` the managed bridge, `started` seconds since the
    epoch. `extra` holds what a branch beside Proxmox's needs and nobody else knows.
    """

    rooms: Rooms
    access: Access
    sampler: Sampler
    version: str
    address: str = "127.0.0.1"
    port: int = 8006
    bridge: str = "vmbr0"
    started: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    on_shutdown: Callable[[], None] | None = None

    @property
    def node(self) -> str:
        """This node's name."""
        return self.rooms.node
