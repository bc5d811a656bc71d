"""From counters that grow to rates: pure arithmetic, with nothing known when a counter began anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GuestCounters:
    """What a guest has used since it started: seconds of CPU, bytes. `began` tells one run of a guest from the next.

    `pressure` maps `cpu some`, `io full` and so on to the microseconds in which work waited.
    """

    at: float
    began: float | None
    cpu_seconds: float
    netin: int
    netout: int
    diskread: int
    diskwrite: int
    pressure: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeCounters:
    """What the machine has done since it booted: CPU clock ticks and bytes over its own cards."""

    at: float
    cpu_total: int
    cpu_idle: int
    cpu_iowait: int
    netin: int
    netout: int


@dataclass(frozen=True, slots=True)
class GuestRates:
    """A guest's rates: `cpu` in processors (1.5: one and a half), traffic in bytes a second. None: not known.

    `pressure` maps `cpu some`, `io full` and so on to the share of the time in which work waited, in percent.
    """

    cpu: float | None = None
    netin: float | None = None
    netout: float | None = None
    diskread: float | None = None
    diskwrite: float | None = None
    pressure: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeRates:
    """The machine's rates: `cpu` and `iowait` as fractions of all processors, traffic in bytes a second."""

    cpu: float | None = None
    iowait: float | None = None
    netin: float | None = None
    netout: float | None = None


def guest_rates(earlier: GuestCounters | None, now: GuestCounters) -> GuestRates:
    """Rates between two looks; nothing is known when the guest was started in between."""
    if earlier is None or now.at <= earlier.at or _another_run(earlier.began, now.began):
        return GuestRates()
    seconds = now.at - earlier.at
    return GuestRates(
        cpu=_rate(earlier.cpu_seconds, now.cpu_seconds, seconds),
        netin=_rate(earlier.netin, now.netin, seconds),
        netout=_rate(earlier.netout, now.netout, seconds),
        diskread=_rate(earlier.diskread, now.diskread, seconds),
        diskwrite=_rate(earlier.diskwrite, now.diskwrite, seconds),
        pressure=_pressure(earlier.pressure, now.pressure, seconds),
    )


def node_rates(earlier: NodeCounters | None, now: NodeCounters) -> NodeRates:
    """Rates between two looks at the machine."""
    if earlier is None or now.at <= earlier.at:
        return NodeRates()
    seconds = now.at - earlier.at
    ticks = now.cpu_total - earlier.cpu_total
    cpu = iowait = None
    if ticks > 0:
        # The kernel's idle and iowait counters may step back by a tick (proc(5)): a share below 0 is none.
        idle = now.cpu_idle - earlier.cpu_idle
        waiting = now.cpu_iowait - earlier.cpu_iowait
        cpu = min(1.0, max(0.0, 1 - (idle + waiting) / ticks))
        iowait = min(1.0, max(0.0, waiting / ticks))
    return NodeRates(
        cpu=cpu,
        iowait=iowait,
        netin=_rate(earlier.netin, now.netin, seconds),
        netout=_rate(earlier.netout, now.netout, seconds),
    )


def _rate(earlier: float, now: float, seconds: float) -> float | None:
    return (now - earlier) / seconds if now >= earlier else None


def _pressure(earlier: Mapping[str, int], now: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Percent of the time. The kernel brings its sums up to date every two seconds: more than all of it is all."""
    microseconds = 1e6 * seconds
    return {
        name: min(100.0, 100 * (total - earlier[name]) / microseconds)
        for name, total in now.items()
        if name in earlier and total >= earlier[name]
    }


def _another_run(earlier: float | None, now: float | None) -> bool:
    if earlier is None or now is None:
        return earlier is not now
    # The start is computed from boot time and clock ticks; a corrected clock moves it by little.
    return abs(now - earlier) > 1
