"""One lock a guest, kept in the store so that a restart knows who worked on what.

A lock names the task that owns it and the volumes it has made so far; recovery frees those when the owner died. It is
taken by compare-and-swap, and whoever waits for it wakes when it is given back.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Self

from bastide.base.errors import BastideError, Conflict, Locked
from bastide.base.ids import Upid
from bastide.state.store import ABSENT, Change, Entry, Store

_PREFIX = "lock/guest/"
_RETRIES = (0.5, 1, 2, 5, 10, 30, 60, 300, 900)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GuestLock:
    """Who works on a guest: `owner` (a UPID's text or a caller's name), what it does, since when (epoch seconds).

    `volumes` are the volume ids it has made and not yet handed over.
    """

    vmid: int
    owner: str
    action: str
    since: int
    volumes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The stored form."""
        return json.dumps(
            {"owner": self.owner, "action": self.action, "since": self.since, "volumes": list(self.volumes)}
        )

    @classmethod
    def from_entry(cls, entry: Entry) -> Self:
        """Read the stored form."""
        raw = json.loads(entry.value)
        vmid = int(entry.key.removeprefix(_PREFIX))
        return cls(vmid, raw["owner"], raw["action"], raw["since"], tuple(raw["volumes"]))


class HeldLock:
    """A lock that the caller holds."""

    def __init__(self, store: Store, lock: GuestLock, entry: Entry) -> None:
        self._store = store
        self._entry = entry
        self._turn = asyncio.Lock()
        self.lock = lock

    async def record(self, volid: str) -> None:
        """Write down a volume before it is made, so that recovery frees it if the owner dies.

        Raises Conflict when the lock was broken in the meantime.
        """
        async with self._turn:
            if volid in self.lock.volumes:
                return
            lock = replace(self.lock, volumes=(*self.lock.volumes, volid))
            self._entry = await self._store.put(self._entry.key, lock.to_json(), expect=self._entry.revision)
            self.lock = lock

    async def release(self) -> None:
        """Give the lock back. A lock that somebody broke is not ours to remove."""
        async with self._turn:
            with contextlib.suppress(Conflict):
                await self._store.delete(self._entry.key, expect=self._entry.revision)


class GuestLocks:
    """The locks of all guests. Not re-entrant: a holder that asks again waits for itself and is refused."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._background: set[asyncio.Task[None]] = set()
        self._given_back: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def hold(
        self, vmid: int, owner: Upid | str, action: str, deadline: float = 10.0, *, volumes: Iterable[str] = ()
    ) -> AsyncIterator[HeldLock]:
        """Hold a guest's lock. Waits at most `deadline` seconds for another owner. Raises Locked, which names it.

        `volumes` are recorded with it. That it is given back is written with what is written next: who asks for it, or
        reads the locks, waits for that.
        """
        held = await self._acquire(GuestLock(vmid, str(owner), action, int(time.time()), tuple(volumes)), deadline)
        try:
            yield held
        finally:
            self._later(self._finish(held), self._given_back)

    async def get(self, vmid: int) -> GuestLock | None:
        """The lock of a guest, or None."""
        await self._settle()
        entry = await self._store.get(f"{_PREFIX}{vmid}")
        return None if entry is None else GuestLock.from_entry(entry)

    async def list(self) -> list[GuestLock]:
        """All locks that are held, or were when their owner died."""
        await self._settle()
        return [GuestLock.from_entry(entry) for entry in await self._store.list(_PREFIX)]

    async def break_lock(self, vmid: int) -> None:
        """Remove a lock whoever holds it: for recovery, after the owner's volumes were freed."""
        await self._store.delete(f"{_PREFIX}{vmid}")

    async def _acquire(self, lock: GuestLock, deadline: float) -> HeldLock:
        key = f"{_PREFIX}{lock.vmid}"
        # The watch begins before the first try, so that no release falls between the two.
        changes = self._store.watch(key)
        until = asyncio.get_running_loop().time() + deadline
        while (held := await self._try(key, lock)) is None:
            # Only the waiting is limited: a slow disk is not another owner.
            try:
                async with asyncio.timeout_at(until):
                    await _freed(changes, key)
            except TimeoutError:
                raise Locked(await self._refusal(lock.vmid)) from None
        return held

    async def _try(self, key: str, lock: GuestLock) -> HeldLock | None:
        writing = asyncio.ensure_future(self._store.put(key, lock.to_json(), expect=ABSENT))
        try:
            entry = await asyncio.shield(writing)
        except Conflict:
            return None
        except asyncio.CancelledError:
            # The write may still happen: a lock without a holder must not stay.
            self._later(self._undo(writing))
            raise
        return HeldLock(self._store, lock, entry)

    async def _undo(self, writing: asyncio.Future[Entry]) -> None:
        with contextlib.suppress(BastideError):
            entry = await writing
            await self._store.delete(entry.key, expect=entry.revision)

    async def _settle(self) -> None:
        """Wait until the locks that were given back are."""
        while self._given_back:
            await asyncio.wait(self._given_back)

    async def _finish(self, held: HeldLock) -> None:
        """Release it. A full disk delays that."""
        try:
            await held.release()
        except BastideError as error:
            _log.error("the lock of guest %d is not released yet: %s", held.lock.vmid, error)
            self._later(self._release_later(held))

    async def _release_later(self, held: HeldLock) -> None:
        for delay in _RETRIES:
            await asyncio.sleep(delay)
            with contextlib.suppress(BastideError):
                await held.release()
                return

    def _later(self, work: Coroutine[None, None, None], among: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._background if among is None else among
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _refusal(self, vmid: int) -> str:
        lock = await self.get(vmid)
        if lock is None:
            return f"can't lock guest {vmid}: it was busy for too long"
        return f"can't lock guest {vmid}: {lock.owner} ({lock.action}) works on it"


async def _freed(changes: AsyncIterator[Change], key: str) -> None:
    """Wait until the key is removed."""
    async for change in changes:
        if change.key == key and change.value is None:
            return
