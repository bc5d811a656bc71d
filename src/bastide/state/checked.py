"""A store that sets aside the records that cannot be read, so that one of them never hides the others.

What was written by this program can be read. What cannot comes from outside: a disk that lies, an older or newer
version, a hand. So all records are tried once, when the store is opened. One that fails is in no list; whoever asks for
it by name, or would write over it, is told (`Unreadable`), and only `repair` and `discard` touch it.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from bastide.base.errors import InvalidParameter, NotFound, Unreadable
from bastide.model.record import explain
from bastide.state.store import ANY, Change, Entry, Store

Reader = Callable[[Entry], object]
"""Reads a record of one family of keys, as its room does. Raises whatever it likes."""

_REASON_LIMIT = 300
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Aside:
    """A record that was set aside, and why."""

    entry: Entry
    reason: str


class CheckedStore:
    """`state.store.Store` over another one. Made by `over`; `readers` are by the beginnings of keys."""

    def __init__(self, store: Store, readers: Mapping[str, Reader], aside: dict[str, Aside]) -> None:
        self._store = store
        self._readers = readers
        self._aside = aside

    @classmethod
    async def over(cls, store: Store, readers: Mapping[str, Reader]) -> Self:
        """Try all records of a store. Those of a family without a reader are taken as they are."""
        aside: dict[str, Aside] = {}
        for entry in await store.list(""):
            reason = fault(readers, entry)
            if reason is not None:
                aside[entry.key] = Aside(entry, reason)
                _log.error("the record %s cannot be read and is set aside: %s", entry.key, reason)
        return cls(store, readers, aside)

    async def get(self, key: str) -> Entry | None:
        """The entry under a key, or None. Raises Unreadable."""
        self._refuse(key)
        return await self._store.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        """The entries whose key begins with the prefix and that can be read, in order of their keys."""
        found = await self._store.list(prefix)
        return [entry for entry in found if entry.key not in self._aside] if self._aside else found

    async def put(self, key: str, value: str, expect: int = ANY) -> Entry:
        """Write a value if the key's revision is `expect`. Raises Conflict, Unreadable."""
        self._refuse(key)
        return await self._store.put(key, value, expect)

    async def delete(self, key: str, expect: int = ANY) -> None:
        """Remove a key if its revision is `expect`. Raises Conflict, Unreadable."""
        self._refuse(key)
        await self._store.delete(key, expect)

    def watch(self, prefix: str) -> AsyncIterator[Change]:
        """Changes below a prefix from now on."""
        return self._store.watch(prefix)

    async def close(self) -> None:
        """Release what the store holds."""
        await self._store.close()

    def aside(self, prefix: str = "") -> tuple[Aside, ...]:
        """What is set aside below a prefix, in order of the keys."""
        return tuple(self._aside[key] for key in sorted(self._aside) if key.startswith(prefix))

    async def repair(self, key: str, value: str) -> None:
        """Write a record anew that was set aside. Raises NotFound, InvalidParameter naming `value`, Conflict."""
        before = self._known(key)
        reason = fault(self._readers, Entry(key, value, before.entry.revision))
        if reason is not None:
            raise InvalidParameter({"value": reason})
        await self._store.put(key, value, before.entry.revision)
        del self._aside[key]

    async def discard(self, key: str) -> None:
        """Remove a record that was set aside. Raises NotFound, Conflict."""
        await self._store.delete(key, self._known(key).entry.revision)
        del self._aside[key]

    def _known(self, key: str) -> Aside:
        if key not in self._aside:
            raise NotFound(f"no such record '{key[:100]}' is set aside")
        return self._aside[key]

    def _refuse(self, key: str) -> None:
        if key in self._aside:
            raise Unreadable(
                f"the record {key} cannot be read ({self._aside[key].reason}): "
                "mend it with `bastide record repair`, or remove it with `bastide record remove`"
            )


def fault(readers: Mapping[str, Reader], entry: Entry) -> str | None:
    """Why a record cannot be read, in one line; None when it can."""
    family = next((prefix for prefix in readers if entry.key.startswith(prefix)), None)
    if family is None:
        return None
    try:
        readers[family](entry)
    except Exception as error:  # a reader fails on what it did not expect in its own way
        return " ".join(_words(error).split())[:_REASON_LIMIT] or type(error).__name__
    return None


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{name}: {why}" for name, why in explain(error).items())
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def aside(store: Store, prefix: str = "") -> tuple[Aside, ...]:
    """What a store has set aside below a prefix; nothing where none of its records was tried."""
    return store.aside(prefix) if isinstance(store, CheckedStore) else ()
