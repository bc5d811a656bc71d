"""How records lie in the store: JSON text under a key, changed by reading, changing and comparing."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from bastide.base.errors import Conflict, NotFound
from bastide.model.record import Record
from bastide.state.store import Entry, Store

_TRIES = 20

R = TypeVar("R", bound=Record)


def to_json(record: Record) -> str:
    """The stored form; unset keys are left out."""
    return json.dumps(record.model_dump(mode="json", exclude_none=True))


def from_entry(kind: type[R], entry: Entry) -> R:
    """Read the stored form."""
    values: dict[str, Any] = json.loads(entry.value)
    return kind.model_validate(values)


def changed(record: R, changes: dict[str, Any]) -> R:
    """The record with other values, checked like a new one. Raises InvalidParameter that names every faulty key."""
    return type(record).parse({**record.model_dump(), **changes})


async def change(store: Store, key: str, kind: type[R], step: Callable[[R], R], missing: str) -> R:
    """Read a record, change it, write it, again when somebody else was faster. Raises NotFound(`missing`)."""
    for _ in range(_TRIES):
        entry = await store.get(key)
        if entry is None:
            raise NotFound(missing)
        new = step(from_entry(kind, entry))
        try:
            await store.put(key, to_json(new), expect=entry.revision)
        except Conflict:
            continue
        return new
    raise Conflict(f"{key} is being changed by many: try again")
