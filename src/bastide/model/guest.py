"""Guests as the store keeps them and as callers see them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Self

from bastide.model.record import Scalar
from bastide.model.snapshot import Snapshot

Kind = Literal["lxc", "qemu"]
TASK_PREFIX: dict[Kind, str] = {"lxc": "vz", "qemu": "qm"}
"""What the types of a guest's tasks begin with: `vzstart`, `qmstart`."""


class GuestState(StrEnum):
    """What the kernel says of a guest now; never stored."""

    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest's record: its configuration in Proxmox's text form, and changes that wait for the next start.

    `pending` holds new values, `removed` the keys to delete at the next start. `first_id` is the host's number of an
    unprivileged container's root, or of the user that a VM's processes run as. `revision` is the store's
    compare-and-swap number of the record as read (0: not stored yet). `snapshots` are kept by name, oldest first.
    """

    vmid: int
    kind: Kind
    node: str
    config: Mapping[str, Scalar]
    pending: Mapping[str, Scalar] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    first_id: int | None = None
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    revision: int = 0

    @property
    def name(self) -> str:
        """The host name, or Proxmox's stand-in for a guest without one."""
        fallback = f"CT{self.vmid}" if self.kind == "lxc" else f"VM {self.vmid}"
        return str(self.config.get("hostname" if self.kind == "lxc" else "name", fallback))

    @property
    def title(self) -> str:
        """What messages call it: `CT 100`, `VM 101`."""
        return f"{'CT' if self.kind == 'lxc' else 'VM'} {self.vmid}"

    @property
    def is_template(self) -> bool:
        """Whether it is a base for clones and never runs."""
        return bool(self.config.get("template"))

    @property
    def wanted_config(self) -> dict[str, Scalar]:
        """The configuration with everything that waits for the next start."""
        return {key: value for key, value in {**self.config, **self.pending}.items() if key not in self.removed}

    @property
    def digest(self) -> str:
        """SHA-1 of the configuration and its pending part; callers send it back against lost updates."""
        text = json.dumps([dict(self.config), dict(self.pending), self.removed], sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def with_config(self, config: Mapping[str, Scalar]) -> Self:
        """The same guest with another configuration."""
        return replace(self, config=dict(config))

    def to_json(self) -> str:
        """The stored form."""
        return json.dumps(
            {
                "kind": self.kind,
                "node": self.node,
                "config": dict(self.config),
                "pending": dict(self.pending),
                "removed": list(self.removed),
                "first_id": self.first_id,
                "snapshots": [snapshot.to_dict() for snapshot in self.snapshots.values()],
            }
        )

    @classmethod
    def from_json(cls, vmid: int, text: str, revision: int) -> Self:
        """Read the stored form."""
        raw: dict[str, Any] = json.loads(text)
        snapshots = [Snapshot.from_dict(item) for item in raw.get("snapshots", [])]
        return cls(
            vmid=vmid,
            kind=raw["kind"],
            node=raw["node"],
            config=raw["config"],
            pending=raw["pending"],
            removed=tuple(raw["removed"]),
            first_id=raw["first_id"],
            snapshots={snapshot.name: snapshot for snapshot in snapshots},
            revision=revision,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a guest has used since it started, in bytes and seconds; memory is its working set.

    `pressure` holds the microseconds in which its work waited: `cpu some`, `io full` and so on; empty where the kernel
    does not account it. `oom_kills` are processes that the kernel killed for want of memory, None where it keeps no
    count.
    """

    cpu_seconds: float
    memory: int
    swap: int
    disk_read: int
    disk_written: int
    processes: int
    pressure: Mapping[str, int] = field(default_factory=dict)
    oom_kills: int | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """An address on one of a guest's interfaces, as its own kernel says."""

    interface: str
    hwaddr: str
    address: str
    prefix: int
