"""A store without a disk: for tests, and for whatever may be forgotten."""

import asyncio

from bastide.base.errors import HostFailure
from bastide.state.mirror import Mirror, Watch, check_revision, check_text
from bastide.state.store import ANY, Change, Entry


class MemoryStore:
    """`state.store.Store` in memory. Every write yields to the event loop once, as a disk would."""

    def __init__(self) -> None:
        self._mirror = Mirror()
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        """The entry under a key, or None."""
        return self._mirror.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        """All entries whose key begins with the prefix, in order of their keys."""
        return self._mirror.list(prefix)

    async def put(self, key: str, value: str, expect: int = ANY) -> Entry:
        """Write a value if the key's revision is the expected one. Raises Conflict otherwise."""
        check_text(key, value)
        await self._turn()
        check_revision(key, self._mirror.get(key), expect)
        self._mirror.apply(Change(key, value, self._mirror.revision + 1))
        return self._mirror.entries[key]

    async def delete(self, key: str, expect: int = ANY) -> None:
        """Remove a key if its revision is the expected one. Raises Conflict otherwise."""
        check_text(key)
        await self._turn()
        current = self._mirror.get(key)
        check_revision(key, current, expect)
        if current is not None:
            self._mirror.apply(Change(key, None, self._mirror.revision + 1))

    def watch(self, prefix: str) -> Watch:
        """Changes below a prefix from now on, each once and in order."""
        return self._mirror.watch(prefix)

    async def close(self) -> None:
        """End the watches; later writes fail."""
        self._closed = True
        self._mirror.close()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self._closed:
            raise HostFailure("the store is closed")
