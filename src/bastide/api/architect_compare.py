"""`/architect/compare`: the head-to-head table, measured on this host."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_architect import KeptComparison
from bastide.base.errors import NotFound
from bastide.model.comparison import Comparison
from bastide.model.record import Record
from bastide.model.types import StorageId
from bastide.operations.architect import compare, compare_chart

branch = Branch("/architect/compare")

_AUDIT = ("perm", "/", ("Sys.Audit",))
_MEASURE = (
    "and",
    ("perm", "/", ("Sys.Modify",)),
    ("perm", "/vms", ("VM.Allocate",)),
    ("perm", "/storage/{storage}", ("Datastore.AllocateSpace",)),
)
_Taken = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", examples=["2026-11-27T01:02:03Z"])]
_IMAGE_NAME = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+:/-]*$")]


class MeasureParameters(Record):
    """What to measure, and how thoroughly.

    `runs` is how many guests of each kind are made (3; with `quick` a single VM), `image` what both are made from,
    `storage` where their disks go; without `vm` only containers are measured.
    """

    quick: bool = False
    runs: Annotated[int | None, Field(ge=1, le=20)] = None
    image: _IMAGE_NAME = "debian-12"
    storage: StorageId = "local"
    vm: bool = True


class WhichComparison(Record):
    """The comparison of a moment; the newest one without."""

    taken: _Taken | None = None


class ChartParameters(WhichComparison):
    """A comparison, and the form of its picture."""

    format: Literal["svg", "png"] = "svg"


@branch.post("", MeasureParameters, check=_MEASURE)
async def measure(call: Call, p: MeasureParameters) -> str:
    """Measure the same system as a container and as a VM on this host, as a task."""
    asked = compare.Asked(quick=p.quick, runs=p.runs, image=p.image, storage=p.storage, vm=p.vm)
    return str(await compare.compare(call.rooms, call.identity, asked))


@branch.get("", WhichComparison, check=_AUDIT, answer=Comparison)
async def read(call: Call, p: WhichComparison) -> dict[str, Any]:
    """A comparison: the newest, or that of a moment."""
    return (await _comparison(call, p.taken)).model_dump(mode="json")


@branch.get("/kept", NoParameters, check=_AUDIT, answer=list[KeptComparison])
async def list_kept(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The comparisons that are kept, newest first: when each was taken, and how."""
    return [
        {
            "taken": one.taken,
            "image": one.image,
            "quick": one.quick,
            "runs": one.runs,
            "vm": one.vm is not None,
            "emulated": one.vm is not None and one.vm.emulated,
        }
        for one in await compare.kept(call.rooms)
    ]


@branch.get("/chart", ChartParameters, check=_AUDIT, raw=True)
async def read_chart(call: Call, p: ChartParameters) -> Response:
    """A comparison as a picture: SVG or PNG."""
    comparison = await _comparison(call, p.taken)
    picture = await compare_chart.chart(call.rooms.layout, comparison, p.format)
    headers = {"cache-control": "no-store", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(picture, media_type=compare_chart.MEDIA_TYPES[p.format], headers=headers)


async def _comparison(call: Call, taken: str | None) -> Comparison:
    if taken is not None:
        return await compare.taken_at(call.rooms, taken)
    found = await compare.latest(call.rooms)
    if found is None:
        raise NotFound("a comparison of this host does not exist yet: run `bastide compare`")
    return found
