"""What is known of backups beyond their being there: whether they were read whole, and whether a restore was tried.

Kept in the store: `verified/<volume id>`, and `restoretest/<when>-<vmid>` for each test.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bastide.base.errors import BastideError
from bastide.base.ids import VolumeId
from bastide.model.guest import Kind
from bastide.operations.rooms import Rooms

KEPT = 500
"""How many restore tests are remembered."""

_VERIFIED = "verified/"
_TESTED = "restoretest/"


@dataclass(frozen=True, slots=True)
class Verification:
    """How the last reading of a backup went: its task, when it ended, and what is wrong."""

    state: Literal["ok", "failed"]
    upid: str
    time: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreTest:
    """A restore that was tried: of which backup (a volume id) and guest, when, how long, and how it went.

    `started` in seconds since the epoch, `duration` in seconds. `step` is how far it came: `restore`, `start`, `boot`,
    `probe` or `done`. `output` is the end of what the probe printed.
    """

    backup: str
    vmid: int
    kind: Kind
    started: int
    duration: float
    ok: bool
    step: str
    upid: str
    reason: str | None = None
    output: str | None = None


async def verified(rooms: Rooms, volid: str, result: Verification) -> None:
    """Remember how the reading of a backup went."""
    await rooms.store.put(_VERIFIED + volid, json.dumps(asdict(result)))


async def verifications(rooms: Rooms, storage_id: str) -> Mapping[str, Verification]:
    """What is known of a storage's backups, by volume id."""
    entries = await rooms.store.list(f"{_VERIFIED}{storage_id}:")
    return {entry.key.removeprefix(_VERIFIED): Verification(**json.loads(entry.value)) for entry in entries}


async def forget_lost(rooms: Rooms, storage_id: str, present: Sequence[str]) -> None:
    """Forget what is known of a storage's backups that are no more."""
    for volid in set(await verifications(rooms, storage_id)) - set(present):
        await forget(rooms, volid)


async def forget(rooms: Rooms, volid: str) -> None:
    """Forget what is known of a backup: a later one of its name shall not inherit it."""
    with contextlib.suppress(BastideError):
        await rooms.store.delete(_VERIFIED + volid)


async def tested(rooms: Rooms, result: RestoreTest) -> None:
    """Remember a restore test; the oldest beyond `KEPT` go."""
    await rooms.store.put(f"{_TESTED}{result.started:012d}-{result.vmid}", json.dumps(asdict(result)))
    entries = await rooms.store.list(_TESTED)
    for entry in entries[: max(0, len(entries) - KEPT)]:
        await rooms.store.delete(entry.key)


async def restore_tests(rooms: Rooms, storage_id: str | None = None) -> list[RestoreTest]:
    """The tests that are remembered, newest first; all, or those of backups on a storage."""
    found = [RestoreTest(**json.loads(entry.value)) for entry in reversed(await rooms.store.list(_TESTED))]
    return [test for test in found if storage_id is None or VolumeId.parse(test.backup).storage == storage_id]


async def shown(rooms: Rooms, storage_id: str) -> Mapping[str, dict[str, Any]]:
    """What lists show of a storage's backups, by volume id.

    `verification` is how the last reading went, as Proxmox VE shows it; `restore-test` how the last test did.
    """
    rows: dict[str, dict[str, Any]] = {}
    for volid, reading in (await verifications(rooms, storage_id)).items():
        rows.setdefault(volid, {})["verification"] = {"state": reading.state, "upid": reading.upid}
    for test in reversed(await restore_tests(rooms, storage_id)):
        rows.setdefault(test.backup, {})["restore-test"] = {
            "ok": int(test.ok),
            "started": test.started,
            "upid": test.upid,
        }
    return rows
