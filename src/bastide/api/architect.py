"""`/architect`: which kind of guest a service should be."""

from bastide.api.architect_catalog import CatalogFolder, catalog_folder
from bastide.api.lists import index
from bastide.api.routing import Branch, Call, NoParameters
from bastide.model.advice import Advice, AdviceAnswer
from bastide.model.service import Service
from bastide.operations.architect.advise import advise_service

branch = Branch("/architect")


class AdviseParameters(Service):
    """A service, and the host's folder with further catalog entries."""

    catalog: CatalogFolder = None


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Index."""
    return index(
        "name",
        "advise",
        "apply",
        "capacity",
        "catalog",
        "compare",
        "destroy",
        "install",
        "launch",
        "placement",
        "plan",
        "plans",
        "review",
    )


@branch.post("/advise", AdviseParameters, user="all", nested=True, answer=Advice, event=None)
async def advise(call: Call, p: AdviseParameters) -> AdviceAnswer:
    """Which kind of guest a service should be on this host, and why.

    Every key may be missing: what is not said is taken from the catalog, or assumed and said so. Nothing is made.
    """
    folder = catalog_folder(call, p.catalog)
    service = Service.model_validate(p.model_dump(exclude={"catalog"}))
    advice = await advise_service(call.rooms, service, catalog=folder)
    return advice.model_dump(mode="json")
