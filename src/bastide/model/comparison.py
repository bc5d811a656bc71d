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


TITLES: dict[Measure, str] = {
    "deploy": "deploy from template",
    "start": "start to ready",
    "stop": "stop",
    "memory": "idle memory",
    "disk": "disk allocated",
    "cpu_single": "CPU, one core",
    "cpu_all": "CPU, all cores",
    "memory_bandwidth": "memory bandwidth",
    "disk_read_4k": "disk read, 4k random",
    "disk_write_4k": "disk write, 4k random",
    "disk_read": "disk read, sequential",
    "disk_write": "disk write, sequential",
    "net_out": "network, guest to host",
    "net_in": "network, host to guest",
    "net_latency": "network latency",
    "density": "idle guests in 1 GB",
}
"""What tables and charts call the measures, in their order."""

LESS_IS_BETTER: frozenset[Measure] = frozenset({"deploy", "start", "stop", "memory", "disk", "net_latency"})
"""The measures of which a small value is a good one; of all others a large one is."""

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))
_BYTES = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (0.0, "B"))


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

    def words(self, value: float) -> str:
        """A value of this figure as people read it: `1.93 s`, `148 µs`, `34.7 MiB`, `1.21 GiB/s`, `3,246 /s`."""
        if self.unit == "s":
            least, unit = next(step for step in _SECONDS if value >= step[0])
            return f"{_short(value / (least or 1e-6))} {unit}"
        if self.unit in ("B", "B/s"):
            least, unit = next(step for step in _BYTES if value >= step[0])
            return f"{_short(value / (least or 1))} {unit}{'/s' if self.unit == 'B/s' else ''}"
        return f"{_short(value)} /s" if self.unit == "1/s" else _short(value)

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

    def ratio(self, measure: Measure) -> float | None:
        """How many times the container's median the VM's is; None where either was not measured or is 0."""
        vm = None if self.vm is None else self.vm.figures.get(measure)
        ct = self.ct.figures.get(measure)
        return vm.median / ct.median if vm is not None and ct is not None and ct.median > 0 else None


def _short(value: float) -> str:
    """Three digits, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
