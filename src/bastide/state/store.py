"""The memory's protocol: text values under `/`-separated keys, changed by compare-and-swap.

Keys in use, each with what the daemon needs after a restart:

* guests: `guest/<vmid>`, `lock/guest/<vmid>`, `cloudinit/<vmid>`; what stands still for the moment of a snapshot:
  `frozen/<vmid>` (a VM's file systems), `standing/<vmid>` (its processors), `still/<vmid>` (a container);
  `templating/<vmid>`: a VM that is being made a template; `restore/<vmid>`: what a VM was in whose place another one
  runs that is being restored;
* storage: `storage/<id>`, `base/<storage>/<key>`, `disk/<name>` (a disk's folder and its mount);
* who may do what: `user/<userid>`, `group/<id>`, `role/<id>`, `token/<userid>!<name>`, `grant/<sha>`, `pool/<id>`,
  `factor/<userid>` (second factors),
  `realm/<name>`;
* work: `task/<upid>`, `plan/<name>`, `comparison/<time>`, `comparing/<vmid>`;
* backups: `backupjob/<id>`, `verifyjob/<id>`, `restoretestjob/<id>`, and under `scheduled/<one of these>` when it ran;
  `verified/<volume id>`, `restoretest/<time>-<vmid>`, `trying/<vmid>`: a guest that is restored on trial;
  `backup-stop/<vmid>`: a guest that is stopped for its backup and is to be started again; `backup-copy/<vmid>`: the
  folder of a first copy of a container's files;
* the host: `setting/<name>`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

ANY = -1
"""Expect nothing: write whatever is there."""

ABSENT = 0
"""Expect that the key does not exist."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value and the revision of its last change. Revisions grow over the whole store and begin at 1."""

    key: str
    value: str
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change that `watch` reports; `value` is None for a deletion."""

    key: str
    value: str | None
    revision: int


class Store(Protocol):
    """What every store does. An acknowledged write survives power loss."""

    async def get(self, key: str) -> Entry | None:
        """The entry under a key, or None."""

    async def list(self, prefix: str) -> list[Entry]:
        """All entries whose key begins with the prefix, in order of their keys."""

    async def put(self, key: str, value: str, expect: int = ANY) -> Entry:
        """Write a value if the key's revision is `expect` (or ANY, ABSENT). Raises Conflict otherwise."""

    async def delete(self, key: str, expect: int = ANY) -> None:
        """Remove a key if its revision is `expect`. Raises Conflict otherwise; an absent key with ANY is fine."""

    def watch(self, prefix: str) -> AsyncIterator[Change]:
        """Changes below a prefix from now on, each once and in order, until the iterator is closed."""

    async def close(self) -> None:
        """Release what the store holds."""
