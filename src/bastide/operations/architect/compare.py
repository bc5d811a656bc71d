"""The comparisons of this host: those that are kept, newest last, under `comparison/<taken>` in the store."""

from bastide.base.errors import NotFound
from bastide.model.comparison import Comparison
from bastide.operations.rooms import Rooms

KEPT = 20
"""How many comparisons are kept."""

_PREFIX = "comparison/"


async def latest(rooms: Rooms) -> Comparison | None:
    """The newest comparison of this host, or None when it was never measured."""
    entries = await rooms.store.list(_PREFIX)
    return Comparison.model_validate_json(entries[-1].value) if entries else None


async def kept(rooms: Rooms) -> list[Comparison]:
    """All comparisons that are kept, newest first."""
    return [Comparison.model_validate_json(entry.value) for entry in reversed(await rooms.store.list(_PREFIX))]


async def taken_at(rooms: Rooms, taken: str) -> Comparison:
    """The comparison of that moment. Raises NotFound."""
    entry = await rooms.store.get(f"{_PREFIX}{taken}")
    if entry is None:
        raise NotFound(f"no comparison was taken at '{taken[:60]}'")
    return Comparison.model_validate_json(entry.value)


async def keep(rooms: Rooms, comparison: Comparison) -> None:
    """Keep a comparison, and forget the oldest beyond `KEPT`."""
    await rooms.store.put(f"{_PREFIX}{comparison.taken}", comparison.model_dump_json())
    entries = await rooms.store.list(_PREFIX)
    for entry in entries[:-KEPT]:
        await rooms.store.delete(entry.key)
