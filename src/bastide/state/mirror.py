"""What a store knows, in memory: sorted entries, the revision counter and the watchers.

Every store keeps one. Reads are answered from it alone, so `list` over thousands of entries costs no disk. It belongs
to one event loop; nothing here is thread-safe.
"""

import asyncio
import weakref
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Self

from bastide.base.errors import Conflict
from bastide.state.store import ABSENT, ANY, Change, Entry

KEY_LIMIT = 1024
"""Longest key, in characters."""


def check_text(key: str, value: str = "") -> None:
    """Refuse what a store cannot keep. Raises ValueError: a program's mistake, never a user's."""
    if not 0 < len(key) <= KEY_LIMIT or any(char < " " or char == "\x7f" for char in key):
        raise ValueError(f"{key[:80]!r} cannot be a key")
    try:
        key.encode()
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the value of {key} is not text that UTF-8 can hold") from error


def check_revision(key: str, current: Entry | None, expect: int) -> None:
    """Compare before a swap. Raises Conflict when the key's revision is not the expected one."""
    if expect in (ANY, current.revision if current else ABSENT):
        return
    if current is None:
        raise Conflict(f"{key} was removed in the meantime")
    if expect == ABSENT:
        raise Conflict(f"{key} already exists")
    raise Conflict(f"{key} was changed in the meantime: read it again")


class Watch(AsyncIterator[Change]):
    """Changes below a prefix since it was made. It never loses one and never makes a writer wait.

    A watcher that falls behind costs a pointer a change: the changes themselves are shared.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._changes: deque[Change] = deque()
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, change: Change) -> None:
        """Queue a change when it lies below the prefix."""
        if not self._closed and change.key.startswith(self._prefix):
            self._changes.append(change)
            self._news.set()

    def end(self) -> None:
        """Let the reader take what is queued and then stop."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._changes.popleft()

    async def aclose(self) -> None:
        """Stop at once, dropping what is queued."""
        self._changes.clear()
        self.end()


class Mirror:
    """Sorted entries with a revision counter; `revision` is the last one given out."""

    def __init__(self, entries: Iterable[Entry] = (), revision: int = 0) -> None:
        self.entries = {entry.key: entry for entry in entries}
        self.revision = revision
        self._keys = sorted(self.entries)
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    def get(self, key: str) -> Entry | None:
        """The entry under a key, or None."""
        return self.entries.get(key)

    def list(self, prefix: str) -> list[Entry]:
        """The entries whose keys begin with the prefix, in order of their keys."""
        size = len(prefix)
        first = bisect_left(self._keys, prefix)
        last = bisect_right(self._keys, prefix, lo=first, key=lambda key: key[:size])
        entries = self.entries
        return [entries[key] for key in self._keys[first:last]]

    def apply(self, change: Change) -> None:
        """Take over a change that is durable, and tell the watchers."""
        if change.value is None:
            if self.entries.pop(change.key, None) is not None:
                del self._keys[bisect_left(self._keys, change.key)]
        else:
            if change.key not in self.entries:
                insort(self._keys, change.key)
            self.entries[change.key] = Entry(change.key, change.value, change.revision)
        self.revision = change.revision
        for watch in tuple(self._watches):
            watch.offer(change)

    def watch(self, prefix: str) -> Watch:
        """A watch that sees every change from now on."""
        watch = Watch(prefix)
        self._watches.add(watch)
        return watch

    def close(self) -> None:
        """End every watch."""
        for watch in tuple(self._watches):
            watch.end()
