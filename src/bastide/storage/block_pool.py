"""What a technology of block devices has to be for `block.py` and the files beside it: a pool of named pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bastide.model.storage import StorageUsage


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a pool: sizes in bytes (`used`: None where only a look at all of it would tell).

    `origin` is the base that it is a linked clone of; `created` in seconds since the epoch.
    """

    name: str
    size: int
    used: int | None = None
    created: int | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a pool can do.

    `thin`: a piece takes space only for what is written; `zeroed`: a new piece reads as zeros; `clones`: by what means
    pieces share blocks, None when they do not; `snapshots`: whether pieces have them; `inner_snapshots`: whether they
    are parts of their piece and lost with it; `latest_only`: only the newest can be gone back to; `settles`: whether a
    snapshot of a piece that is mounted holds all that was written, else its file system has to stand still for it;
    `unit`: bytes that sizes are multiples of.
    """

    thin: bool
    zeroed: bool
    clones: str | None = None
    snapshots: bool = False
    inner_snapshots: bool = False
    latest_only: bool = False
    settles: bool = True
    unit: int = 1024 * 1024


class Pool(Protocol):
    """Pieces by name. The names are checked already; `owner` is the guest's vmid."""

    @property
    def abilities(self) -> Abilities:
        """What it can do."""

    async def check(self) -> None:
        """Raises HostFailure or NotFound when the pool is not there."""

    async def space(self) -> StorageUsage:
        """Its space, but for what is allocated."""

    async def pieces(self) -> Sequence[Piece]:
        """All that is in it, also what is not ours, but for snapshots."""

    async def make(self, name: str, size: int, owner: int | None = None, *, files: bool = False) -> None:
        """Make a piece of `size` bytes, for a container's `files` or a disk. Raises AlreadyExists, NoSpace."""

    async def remove(self, name: str, *, alone: bool = False) -> None:
        """Remove a piece with its snapshots, or alone where they can be without it; gone is fine. Raises WrongState."""

    async def rename(self, old: str, new: str) -> None:
        """Give a piece that nothing has open another name; a device of the old name is none. Raises AlreadyExists."""

    async def grow(self, name: str, size: int) -> None:
        """Grow a piece, also one in use. Raises NoSpace."""

    async def cut(self, name: str, size: int) -> None:
        """Cut a piece, whatever is on it."""

    async def device(self, name: str, snapshot: str | None = None) -> Path:
        """The device of a piece, or of its state at a snapshot, made if there is none. Raises NotFound."""

    async def release(self, name: str, snapshot: str | None = None) -> None:
        """Take the device of a piece, or of its state at a snapshot, away; one that has none is fine."""

    async def seal(self, name: str) -> None:
        """Let nothing write to a piece any more, and clones build on it. May be repeated."""

    async def clone(self, base: str, name: str, owner: int | None = None) -> None:
        """Make a piece that builds on a sealed one. Raises AlreadyExists, NoSpace, NotFound."""

    async def duplicate(self, name: str, target: str, snapshot: str | None = None, owner: int | None = None) -> bool:
        """Make an independent piece of the same content by the pool's own means; False where it has none."""

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep the state of a piece. Raises AlreadyExists, NoSpace."""

    async def rollback(self, name: str, snapshot: str, temporary: str) -> str | None:
        """Give a piece its former state, or make `temporary` of it to take its place, and tell its name."""

    async def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot that is there. Raises WrongState when it is needed."""

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of a piece, oldest first."""
