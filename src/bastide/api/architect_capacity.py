"""`/architect/capacity`, `/architect/placement`: what still fits on this host, and which guest on which of several."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.routing import Branch, Call
from bastide.base.units import parse_size
from bastide.model.capacity import Capacity, Example
from bastide.model.placement import Placement, PlacementProblem
from bastide.model.record import Record
from bastide.model.service import Size, Word
from bastide.operations.architect import capacity
from bastide.operations.architect.catalog import load

branch = Branch("/architect")

_AUDIT = ("perm", "/", ("Sys.Audit",))


class CapacityQuery(Record):
    """The guest that is asked about: its size, or that of a catalog entry; what is said of its size comes first."""

    service: Annotated[Word | None, Field(description="a catalog entry, at its usual size")] = None
    cores: Annotated[int | None, Field(ge=1, le=512)] = None
    memory: Size | None = None
    disk: Size | None = None


@branch.get("/capacity", CapacityQuery, check=_AUDIT, answer=Capacity)
async def read_capacity(call: Call, p: CapacityQuery) -> dict[str, Any]:
    """What this host still has room for, and why no more; when its storages are full."""
    asked: dict[str, Any] = {}
    if p.service is not None:
        entry = (await load(call.rooms)).find(p.service)
        usual = entry.size.usual
        asked = {"name": entry.title, "cores": usual.cores}
        asked |= {"memory": parse_size(usual.memory), "disk": parse_size(usual.disk)}
    asked |= {"cores": p.cores} if p.cores is not None else {}
    asked |= {key: parse_size(size) for key in ("memory", "disk") if (size := getattr(p, key)) is not None}
    return (await capacity.capacity(call.rooms, Example(**asked))).model_dump(mode="json")


@branch.post("/placement", PlacementProblem, check=_AUDIT, nested=True, answer=Placement, event=None)
async def solve_placement(_call: Call, p: PlacementProblem) -> dict[str, Any]:
    """Which guest runs on which host: the fewest moves, then few hosts or hosts filled alike.

    It is reckoning alone: nothing is moved, and the hosts need not exist.
    """
    return (await capacity.place(p)).model_dump(mode="json")
