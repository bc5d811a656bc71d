"""What a review looks at and what it finds: guests of the wrong size or the wrong kind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from bastide.model.advice import Confidence
from bastide.model.record import Record, Scalar
from bastide.model.service import Choice

Severity = Literal["risk", "waste", "note"]
Window = Literal["hour", "day", "week", "month", "year"]

_RARE = 0.05


def percentile95(values: Sequence[float]) -> float:
    """The value that 95 % of the values do not exceed (nearest rank); 0 without any."""
    return sorted(values)[math.ceil((1 - _RARE) * len(values)) - 1] if values else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure over a window: a mean per sample, and the highest minute within each sample.

    Whether less would do is judged by the peaks, whether more is needed by the means: either way by what speaks
    against the change. Where a sample is a minute, both are the same.
    """

    means: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()

    @property
    def usual(self) -> float:
        """95 % of the samples' means are not above this."""
        return percentile95(self.means)

    @property
    def high(self) -> float:
        """95 % of the samples' peaks are not above this."""
        return percentile95(self.peaks)

    @property
    def peak(self) -> float:
        """The highest minute of all."""
        return max(self.peaks, default=0.0)


@dataclass(frozen=True, slots=True)
class Inside:
    """What was seen of a running guest's inside; whoever is in there may have made it up.

    `engines` runs others' systems: `docker`, `podman`, `kubernetes`, `hypervisor` ... `nfs_server` is whether it
    exports, `nfs_mounts` where it mounts. `public` are the listening TCP sockets that a public address reaches, as
    `203.0.113.5:443`. What a VM's agent tells alone: `modules` that its kernel does not bring, whether it is `linux`,
    memory in bytes, kills for want of memory since its boot, and its root file system in bytes.
    """

    engines: tuple[str, ...] = ()
    nfs_server: bool = False
    nfs_mounts: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    linux: bool | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    oom_kills: int | None = None
    disk_used: int | None = None
    disk_size: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """A guest as a review sees it: bytes, processors, seconds.

    `ref` is what commands call it: its name where that is unambiguous, else its vmid. `buckets` is how many samples the
    window holds, `samples` how many were taken of this guest, the first at `since` (seconds since the epoch). `cpu` is
    in processors, pressure in percent of the time. `unused_for` is how long it has not run, None when that is not
    known. `unseen` says why `inside` is None.
    """

    vmid: int
    name: str
    ref: str
    kind: Choice
    config: Mapping[str, Scalar]
    running: bool
    cpus: float
    memory_limit: int
    disk_limit: int | None = None
    emulated: bool = False
    uptime: float = 0.0
    unused_for: float | None = None
    samples: int = 0
    buckets: int = 0
    since: int | None = None
    cpu: Measured = Measured()
    memory: Measured = Measured()
    disk: Measured = Measured()
    disk_now: int | None = None
    cpu_pressure: Measured = Measured()
    memory_pressure: Measured = Measured()
    io_pressure: Measured = Measured()
    swap: int = 0
    oom_kills: int | None = None
    inside: Inside | None = None
    unseen: str = ""


class Saving(Record):
    """What a change frees: bytes of memory and disk, processors."""

    memory: int = 0
    cores: float = 0
    disk: int = 0

    def __add__(self, other: "Saving") -> "Saving":
        return Saving(memory=self.memory + other.memory, cores=self.cores + other.cores, disk=self.disk + other.disk)


class Finding(Record):
    """Something about a guest that could be better, and the commands that mend it; nothing is done by itself.

    `id` names the check (`memory-too-big`). `finding` says what is wrong in a sentence with figures, `effect` what is
    saved or what may happen, `how` what the commands leave to do. `since` is when the first sample it rests on was
    taken (seconds since the epoch), `samples` how many there are; a fact that is seen at once has none.
    """

    id: str
    vmid: int
    guest: str
    kind: Choice
    severity: Severity
    finding: str
    effect: str
    saving: Saving = Saving()
    commands: tuple[str, ...] = ()
    how: str = ""
    since: int | None = None
    samples: int = 0
    confidence: Confidence


class GuestReview(Record):
    """A guest's findings.

    `needed` is how many samples its sizes are judged from, `unknown` what could not be judged, and why.
    """

    vmid: int
    name: str
    kind: Choice
    running: bool
    samples: int
    needed: int
    since: int | None
    unknown: tuple[str, ...]
    findings: tuple[Finding, ...]


class Review(Record):
    """The guests that were looked at, and what the findings of waste would free together.

    `taken` is seconds since the epoch.
    """

    window: Window
    taken: int
    saving: Saving
    guests: tuple[GuestReview, ...] = Field(default=())
