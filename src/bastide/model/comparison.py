"""The head-to-head table: what the same system costs as a container and as a VM, measured on one host."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Literal, Self

from pydantic import Field

from bastide.model.record import Record
from bastide.model.service import Choice

Measure = Literal[
    "deploy", "start", "stop", "memory", "disk", "cpu_single", "cpu_all", "memory_bandwidth",
    "disk_read_4k", "disk_write_4k", "disk_read", "disk_write", "net_out", "net_in", "net_latency", "density",
]  # fmt: skip
"""What is measured.

Seconds: deploy (from template to created), start (to ready), stop. Bytes: memory (idle, as the host pays it), disk
(allocated). Events a second: cpu_single, cpu_all. Bytes a second: memory_bandwidth, disk_read, disk_write, net_out,
net_in. Operations a second: disk_read_4k, disk_write_4k. Seconds: net_latency. Guests in 1 GB: density.
"""


class Figure(Record):
    """A measure's median and spread over its runs; `values` are the single runs, in their order."""

    unit: Literal["s", "B", "B/s", "1/s", "guests/GB"]
    values: tuple[float, ...] = Field(min_length=1)

    @property
    def median(self) -> float:
        """The middle value."""
        return float(median(self.values))

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    @classmethod
    def of(cls, unit: Any, values: Sequence[float]) -> Self:
        """A figure of these runs."""
        return cls(unit=unit, values=tuple(values))


class Side(Record):
    """One kind's figures, and facts that have no figure.

    `isolation` and `hardware` map a fact's name to what is: `kernel` -> `own` or `the host's (6.1.0)`, `seccomp` ->
    `filter, 41 system calls refused` ... `missing` says of what could not be measured, why.
    """

    kind: Choice
    emulated: bool = False
    figures: dict[Measure, Figure] = Field(default_factory=dict)
    isolation: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, str] = Field(default_factory=dict)
    missing: dict[str, str] = Field(default_factory=dict)


class Comparison(Record):
    """A measured table. `taken` is ISO 8601 in UTC, `host` says what the machine was: processor, kernel, QEMU ..."""

    taken: str
    quick: bool
    runs: int
    image: str
    host: dict[str, str]
    ct: Side
    vm: Side | None
    native: dict[Measure, Figure] = Field(default_factory=dict, description="the same work on the host itself")

    def side(self, kind: Choice) -> Side | None:
        """The figures of one kind."""
        return self.ct if kind == "ct" else self.vm
