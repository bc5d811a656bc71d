"""`/architect/catalog`: the services that the architect knows."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bastide.api.routing import Branch, Call
from bastide.api.shapes_architect import CatalogRow
from bastide.base.errors import PermissionDenied
from bastide.model.catalog import CatalogEntry, Category
from bastide.model.record import Record
from bastide.operations.architect import catalog

branch = Branch("/architect/catalog")

CatalogFolder = Annotated[str | None, Field(pattern=r"^/", max_length=4096)]
"""A folder on the host with further entries; for root@pam alone, see `catalog_folder`."""


class CatalogQuery(Record):
    """Which entries."""

    query: Annotated[str | None, Field(max_length=200)] = None
    category: Category | None = None
    catalog: CatalogFolder = None


class EntryQuery(Record):
    """An entry by its name, an alias, or a misspelling that is near to one."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    catalog: CatalogFolder = None


@branch.get("", CatalogQuery, user="all", answer=list[CatalogRow])
async def list_entries(call: Call, p: CatalogQuery) -> list[dict[str, Any]]:
    """The services in whose texts all words of the query stand, the most fitting ones first."""
    found = await catalog.load(call.rooms, catalog_folder(call, p.catalog))
    return [catalog.row(entry) for entry in found.search((p.query or "").split(), p.category)]


@branch.get("/{name}", EntryQuery, user="all", answer=CatalogEntry)
async def read_entry(call: Call, p: EntryQuery) -> dict[str, Any]:
    """All about one service."""
    found = await catalog.load(call.rooms, catalog_folder(call, p.catalog))
    return found.find(p.name).model_dump(mode="json", exclude_none=True)


def catalog_folder(call: Call, text: str | None) -> Path | None:
    """The folder of a `catalog` parameter. Raises PermissionDenied: only root@pam may have files of the host read."""
    if text is None:
        return None
    if not call.is_root:
        raise PermissionDenied("Permission check failed (only root@pam may use 'catalog')")
    return Path(text)
