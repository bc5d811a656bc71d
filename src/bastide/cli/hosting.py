"""What the command line asks of the machine itself: the place above hands an implementation to `main`.

`up`, `down` and `doctor` work where no daemon answers, so they cannot go through the API; the command line only knows
this protocol, and a client on another machine has none.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from bastide.base.layout import Layout


@dataclass(frozen=True, slots=True)
class UpRequest:
    """How the daemon shall run; None leaves what was chosen before, or the default."""

    foreground: bool = False
    port: int | None = None
    node: str | None = None
    bridge: str | None = None
    listen: str | None = None

    def options(self) -> list[str]:
        """The daemon's arguments for what was asked."""
        given = {"--port": self.port, "--node": self.node, "--bridge": self.bridge, "--listen": self.listen}
        return [text for name, value in given.items() if value is not None for text in (name, str(value))]


@dataclass(frozen=True, slots=True)
class UpReport:
    """A daemon that answers. `started`: by this call. `fingerprint`: its certificate's SHA-256."""

    started: bool
    url: str
    node: str
    version: str
    pid: int | None = None
    fingerprint: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DownRequest:
    """How the daemon shall end. Guests keep running unless `guests` or `purge` ask otherwise."""

    guests: bool = False
    purge: bool = False
    force: bool = False
    timeout: int = 60


@dataclass(frozen=True, slots=True)
class DownReport:
    """What `down` did, a sentence each; `stopped` tells whether a daemon ran."""

    stopped: bool
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A thing `doctor` looked at, and what to do about it."""

    name: str
    ok: Literal["ok", "warn", "fail"]
    message: str
    advice: str = ""


class Host(Protocol):
    """This machine, as far as the command line needs it. Methods raise errors of the tree."""

    def up(self, layout: Layout, request: UpRequest) -> UpReport | None:
        """Make a daemon run and answer; in the foreground this returns None when the daemon has ended."""

    def down(self, layout: Layout, request: DownRequest) -> DownReport:
        """End the daemon."""

    def doctor(self, layout: Layout) -> list[Finding]:
        """What this host can do."""
