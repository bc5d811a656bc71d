"""Telling listeners what has changed: one look at the store and the engines for all of them, only while there are any.

A listener that reads slowly has its news put together, so that it costs what a fast one does.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator

from bastide.access.access import Access
from bastide.base.errors import WrongState
from bastide.model.access import Identity
from bastide.model.guest import GuestState
from bastide.operations.news import EVERYTHING, Batch, News, rights
from bastide.operations.rooms import Rooms
from bastide.state.store import Change

_States = dict[int, GuestState]

TICK = 0.25
"""Seconds at least between two messages to a listener."""

_LOOK_EVERY = 2  # ticks between two looks at what runs
_LISTENERS = 256
_LISTENERS_OF_ONE = 48
_log = logging.getLogger(__name__)


class Listener:
    """Somebody who is told what they may know."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.rights: object = None
        self.doubtful = False
        """Set when rights or users have changed: whether the caller may still listen is to be asked anew."""
        self.lost = False
        """Set when news may be missing from now on."""
        self._news = News()
        self._waiting = asyncio.Event()

    def tell(self, news: News) -> None:
        """Keep news for the listener's next turn."""
        self._news.add(news)
        if news:
            self.wake()

    def wake(self) -> None:
        """End the wait, also without news."""
        self._waiting.set()

    async def next(self, seconds: float) -> News:
        """The news since the last call; empty ones after so many seconds, and when `doubtful` or `lost` was set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._waiting.wait()
        self._waiting.clear()
        news, self._news = self._news, News()
        return news


class Changes:
    """The listeners of this daemon."""

    def __init__(self, rooms: Rooms, access: Access) -> None:
        self._rooms = rooms
        self._access = access
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None
        self._batch = Batch()

    def refuse_too_many(self, identity: Identity) -> None:
        """Raise WrongState when too many listen already."""
        # A user's tokens count as the user, who can make any number of them.
        of = Counter(listener.identity.userid for listener in self._listeners)
        if of.total() >= _LISTENERS or of[identity.userid] >= _LISTENERS_OF_ONE:
            raise WrongState("too many listen already: try again when some have gone")

    @contextlib.asynccontextmanager
    async def listen(self, identity: Identity) -> AsyncIterator[Listener]:
        """While entered, the listener is told."""
        listener = Listener(identity)
        self._listeners.add(listener)
        if self._watching is None:
            self._batch = Batch()
            changes = self._rooms.store.watch("")  # from now on, not from when the task begins
            self._watching = asyncio.create_task(self._watch(changes, self._states()))
        try:
            listener.rights = rights(identity, await self._access.authority(), await self._pools())
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def _watch(self, changes: AsyncIterator[Change], states: _States) -> None:
        reading = asyncio.create_task(self._read(changes))
        try:
            await self._tell(states, reading)
        except Exception:
            _log.exception("what changes is not seen any more")
        finally:
            reading.cancel()
        for listener in self._listeners:  # they ask for everything when they come back
            listener.lost = True
            listener.wake()
        self._listeners, self._watching = set(), None

    async def _read(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._batch.note(change)

    async def _tell(self, states: _States, reading: asyncio.Task[None]) -> None:
        """Tell the listeners until the store is closed."""
        for tick in itertools.count(1):
            await asyncio.sleep(TICK)
            if tick % _LOOK_EVERY == 0:
                before, states = states, self._states()
                self._batch.guests.update(vmid for vmid, _ in before.items() ^ states.items())
            if reading.done():
                reading.result()
                return
            if self._batch:
                batch, self._batch = self._batch, Batch()
                await self._distribute(batch)

    def _states(self) -> _States:
        """What runs. Engines know by events; that a container is frozen is seen by its task alone."""
        engines = self._rooms.engines
        states = dict.fromkeys(engines.containers.running(), GuestState.RUNNING)
        return states | {vmid: engines.vms.state(vmid) for vmid in engines.vms.running()}

    async def _distribute(self, batch: Batch) -> None:
        authority, pools = await self._access.authority(), await self._pools()
        storages = [entry.key.partition("/")[2] for entry in await self._rooms.store.list("storage/")]
        for listener in list(self._listeners):
            news = batch.seen_by(listener.identity, authority, self._rooms.node, storages)
            if "rights" in batch.marks:
                before, listener.rights = listener.rights, rights(listener.identity, authority, pools)
                if before != listener.rights:
                    news.topics |= EVERYTHING
                listener.doubtful = True
                listener.wake()
            listener.tell(news)
            await asyncio.sleep(0)

    async def _pools(self) -> list[tuple[str, int]]:
        return [(entry.key.partition("/")[2], entry.revision) for entry in await self._rooms.store.list("pool/")]
