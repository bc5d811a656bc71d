"""Guests over hosts: what there is, what has to hold, and the answer. `architect/placement.py` finds it.

The same keys stand in a file for `bastide capacity --placement` and in a call of `/architect/placement`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bastide.model.record import Record
from bastide.model.service import Size, Word
from bastide.model.types import DnsName

SECONDS_LIMIT = 60
PAIRS_LIMIT = 200_000
"""Guests times hosts: the solver keeps a number for each pair."""

Devices = Annotated[dict[Word, Annotated[int, Field(ge=1, le=1000)]], Field(max_length=50)]
"""Devices by a name of the writer's own (`gpu`, `zigbee`), and how many."""

Names = Annotated[tuple[DnsName, ...], Field(min_length=2, max_length=1000)]


class PlacementHost(Record):
    """A host and all that it has. `overcommit` is how many virtual processors it gives for each of its own.

    A host that is `leaving` takes no guest; those on it have to move.
    """

    name: DnsName
    cores: Annotated[int, Field(ge=1, le=8192)]
    memory: Size
    disk: Size
    devices: Devices = Field(default_factory=dict)
    overcommit: Annotated[float, Field(ge=0.1, le=64)] = 4.0
    leaving: bool = False


class PlacementGuest(Record):
    """A guest and what it takes. `host` is where it is now, `pinned` where it has to be."""

    name: DnsName
    cores: Annotated[int, Field(ge=1, le=8192)]
    memory: Size
    disk: Size = "1M"
    devices: Devices = Field(default_factory=dict)
    host: DnsName | None = None
    pinned: DnsName | None = None


class Headroom(Record):
    """What stays free on each host, in percent."""

    memory: Annotated[float, Field(ge=0, le=90)] = 10
    disk: Annotated[float, Field(ge=0, le=90)] = 20


class PlacementProblem(Record):
    """Which guest runs where?

    `together` and `apart` list groups of guests that must share a host, or must not. With `failover` (N+1), the guests
    of any one host that fails must find memory and devices on the others, still apart, without touching the headroom;
    pinned guests stay down with their host, and disks are taken to be within reach of every host.

    The fewest guests move; among those answers, `then` decides: `hosts` uses few hosts, `balance` fills them alike.
    `seconds` is the time to think.
    """

    hosts: Annotated[tuple[PlacementHost, ...], Field(min_length=1, max_length=200)]
    guests: Annotated[tuple[PlacementGuest, ...], Field(max_length=5000)]
    together: Annotated[tuple[Names, ...], Field(max_length=1000)] = ()
    apart: Annotated[tuple[Names, ...], Field(max_length=1000)] = ()
    headroom: Headroom = Headroom()
    failover: bool = False
    then: Literal["hosts", "balance"] = "balance"
    seconds: Annotated[float, Field(gt=0, le=SECONDS_LIMIT)] = 15

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_double("hosts", (host.name for host in self.hosts))
        _refuse_double("guests", (guest.name for guest in self.guests))
        if len(self.hosts) * len(self.guests) > PAIRS_LIMIT:
            raise ValueError(f"guests: {len(self.guests)} guests times {len(self.hosts)} hosts is over {PAIRS_LIMIT}")
        hosts = {host.name for host in self.hosts}
        for guest in self.guests:
            if guest.pinned is not None and guest.pinned not in hosts:
                raise ValueError(f"guests: '{guest.name}' is pinned to '{guest.pinned}', which is not among the hosts")
        guests = {guest.name for guest in self.guests}
        for key, groups in (("together", self.together), ("apart", self.apart)):
            for group in groups:
                _refuse_double(key, group)
                for name in group:
                    if name not in guests:
                        raise ValueError(f"{key}: '{name}' is not among the guests")
        return self


class PlacementMove(Record):
    """A guest that has to go from one host to another. `origin` may be a host that is no longer there."""

    guest: str
    origin: str
    target: str


class Placement(Record):
    """The answer.

    `status`: `optimal` (nothing is better), `feasible` (all holds; better may exist), `infeasible` (nothing can hold:
    `clashes` says what clashes), `unknown` (time ran out first). `moves_bound` is the least number of moves that any
    answer has; `score` is the hosts in use (`then: hosts`) or the fullest host's memory in percent (`then: balance`),
    `score_bound` the least that any answer with as few moves has; `gap` is (score - score_bound) / score.
    """

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    assignment: dict[str, str] = Field(default_factory=dict)
    moves: tuple[PlacementMove, ...] = ()
    moves_bound: int = 0
    score: float = 0
    score_bound: float = 0
    gap: float = 0
    clashes: tuple[str, ...] = ()
    minimal: bool = Field(default=True, description="whether all clashes are needed for there to be no answer")
    seconds: float = 0


def _refuse_double(key: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{key}: '{name}' stands twice")
