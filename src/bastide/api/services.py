"""What the API's handlers work with. `daemon/` builds it once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bastide.access.access import Access
from bastide.access.audit import AuditLog
from bastide.metrics.sampler import Sampler
from bastide.operations.changes import Changes
from bastide.operations.console import Consoles
from bastide.operations.rooms import Rooms
from bastide.operations.spice import Spice


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms, the access control and the metrics behind the API.

    `address` is where the API listens, `port` its TCP port, `bridge` the managed bridge, `started` seconds since the
    epoch. `audit` keeps what was done; `changes` tells listeners what has changed; `consoles` and `spice` are the
    open ones.
    """

    rooms: Rooms
    access: Access
    sampler: Sampler
    version: str
    address: str = "127.0.0.1"
    port: int = 8006
    bridge: str = "vmbr0"
    started: float = 0.0
    on_shutdown: Callable[[], None] | None = None
    audit: AuditLog = field(init=False)
    changes: Changes = field(init=False)
    consoles: Consoles = field(default_factory=Consoles, init=False)
    spice: Spice = field(default_factory=Spice, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "audit", AuditLog(self.rooms.layout.logs / "audit"))
        object.__setattr__(self, "changes", Changes(self.rooms, self.access))

    @property
    def node(self) -> str:
        """This node's name."""
        return self.rooms.node
