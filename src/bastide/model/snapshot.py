"""Snapshots of guests as their records keep them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from bastide.base.errors import InvalidParameter
from bastide.model.record import Scalar

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}", re.ASCII)
_RESERVED = frozenset({"current", "pending"})

SnapshotStep = Literal["prepare", "delete", "rollback"]
"""What is being done with a snapshot; a restart of the daemon undoes the first and finishes the others."""


def check_snapshot_name(name: str) -> str:
    """The name itself. Raises InvalidParameter naming `snapname`."""
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise InvalidParameter(
            {"snapname": f"'{name[:60]}' can't name a snapshot: a letter, then 1 to 39 letters, digits, - or _"}
        )
    return name


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A guest's state at one moment: its configuration then, and where its volumes' snapshots come from.

    `taken_at` in seconds since the epoch; `parent` the snapshot it was taken after. With memory: `vmstate` is the
    volume that holds it, `machine` and `cpu` the machine type and CPU model that can take it. `step` is None once the
    snapshot is whole. `volumes` are the ids of the volumes that it was taken of.
    """

    name: str
    taken_at: int
    config: Mapping[str, Scalar]
    volumes: tuple[str, ...]
    parent: str | None = None
    description: str | None = None
    vmstate: str | None = None
    machine: str | None = None
    cpu: str | None = None
    step: SnapshotStep | None = None

    def to_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "name": self.name,
            "taken_at": self.taken_at,
            "config": dict(self.config),
            "volumes": list(self.volumes),
            "parent": self.parent,
            "description": self.description,
            "vmstate": self.vmstate,
            "machine": self.machine,
            "cpu": self.cpu,
            "step": self.step,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(**{**raw, "volumes": tuple(raw["volumes"])})


@dataclass(frozen=True, slots=True)
class SnapshotTree:
    """A guest's snapshots by name, and the one that its present state comes from."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    current: str | None = None
