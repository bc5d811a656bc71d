"""What is answered of the architect's catalog and its comparisons."""

from bastide.api.shape import Flag, TypedDict, shape
from bastide.model.catalog import Category


@shape
class CatalogRow(TypedDict):
    """A service that the architect knows; `installs` is `1` where it has a recipe that makes it run."""

    name: str
    title: str
    summary: str
    category: Category
    aliases: list[str]
    installs: Flag


@shape
class KeptComparison(TypedDict):
    """A comparison that is kept: when it was taken (ISO 8601, UTC) and how; `vm` is whether VMs were measured, too."""

    taken: str
    image: str
    quick: bool
    runs: int
    vm: bool
    emulated: bool
