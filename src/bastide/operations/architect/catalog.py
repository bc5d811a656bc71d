"""The catalog as a host has it: what is shipped, what its administrator added, and a folder for one call."""

import asyncio
import contextlib
from functools import cache
from pathlib import Path
from typing import Any

from bastide.architect import entries
from bastide.architect.entries import Catalog, parse_entry
from bastide.base.errors import NotFound
from bastide.base.layout import Layout
from bastide.host.datafiles import read_texts
from bastide.model.catalog import CatalogEntry
from bastide.operations.rooms import Rooms

SUFFIX = ".yaml"
_SHIPPED = Path(entries.__file__).with_name("catalog")


def folder(layout: Layout) -> Path:
    """Where a host keeps entries of its own; it need not exist."""
    return layout.state / "catalog"


async def load(rooms: Rooms, extra: Path | None = None) -> Catalog:
    """The shipped entries, above them those of the host's own folder, and above both those of `extra`.

    What a person may edit is read at every call. Raises InvalidParameter that names the file and line of a faulty
    entry, and NotFound when `extra` is no folder.
    """
    return await asyncio.to_thread(_load, folder(rooms.layout), extra)


def row(entry: CatalogEntry) -> dict[str, Any]:
    """An entry as a list shows it."""
    return {
        "name": entry.name,
        "title": entry.title,
        "summary": entry.summary,
        "category": entry.category,
        "aliases": list(entry.aliases),
        "installs": int(entry.recipe is not None),
    }


def _load(own: Path, extra: Path | None) -> Catalog:
    catalog = _shipped()
    with contextlib.suppress(NotFound):  # most hosts have none of their own
        catalog = _above(catalog, own)
    return catalog if extra is None else _above(catalog, extra)


@cache
def _shipped() -> Catalog:
    return _above(None, _SHIPPED)


def _above(below: Catalog | None, where: Path) -> Catalog:
    texts = read_texts(where, SUFFIX)
    if not texts and below is not None:
        return below
    return Catalog((parse_entry(text, str(where / name)) for name, text in texts.items()), below)
