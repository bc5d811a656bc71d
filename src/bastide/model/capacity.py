"""What a host still has room for: what is promised, what is used, what fits, when a storage is full. Sizes in bytes."""

from typing import Annotated, Literal

from pydantic import Field, computed_field

from bastide.model.advice import Cost
from bastide.model.record import Record
from bastide.model.service import Choice


class Example(Record):
    """The guest that is asked about, and what it stands for. `cores` are virtual processors."""

    cores: Annotated[int, Field(ge=1, le=512)] = 1
    memory: Annotated[int, Field(ge=1)] = 512 * 1024**2
    disk: Annotated[int, Field(ge=1)] = 4 * 1024**3
    name: str = "a small guest"


class Resource(Record):
    """One thing that runs out. `free` is what may still be promised: never below 0.

    `total` is what the machine has (for `cores`: its processors times the overcommit), `used` what is in use now
    (for `cores`: processors that compute), `promised` what the guests may use at most, `spared` the headroom, `host`
    what the machine takes for itself.
    """

    total: int
    used: float
    promised: int
    spared: int
    host: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def free(self) -> int:
        """What may still be promised."""
        return max(0, self.total - self.spared - self.host - self.promised)


class Outlook(Record):
    """When a storage is full. `days` is None where that is never, or not known; `sentence` says which, and how sure.

    `rate` is bytes a day; `soonest` and `latest` are the days at the rates that bound it with 95 % confidence.
    """

    days: float | None = None
    soonest: float | None = None
    latest: float | None = None
    rate: float | None = None
    sampled: float = Field(default=0, description="days that the samples span")
    sentence: str


class StorageRoom(Record):
    """A storage: its space, what it takes (`ct`, `vm`), and when it is full."""

    storage: str
    kinds: tuple[Choice, ...]
    space: Resource
    outlook: Outlook


class Fit(Record):
    """How many more guests of the example's size fit as one kind.

    `count` holds if all use what they are promised; `limit` is what ends it. `each` is the number by every limit
    alone. `idle` is how many would fit if they all did nothing, by memory alone; None where no cost is known. `cost` is
    of one idle guest.
    """

    kind: Choice
    count: int
    limit: Literal["memory", "cores", "disk", "storage"]
    each: dict[str, int]
    idle: int | None = None
    emulated: bool = False
    cost: Cost | None = None
    why: str


class Capacity(Record):
    """What still fits on a node. Guests that are stopped count: they may be started."""

    node: str
    kvm: bool
    guests: dict[Choice, int]
    example: Example
    cores: Resource
    memory: Resource
    storages: tuple[StorageRoom, ...]
    fits: tuple[Fit, ...]
    notes: tuple[str, ...] = ()
