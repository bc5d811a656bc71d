"""`/architect`: which kind of guest a service should be."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from bastide.api.lists import index
from bastide.api.routing import Branch, Call, NoParameters
from bastide.base.errors import PermissionDenied
from bastide.model.advice import Advice, AdviceAnswer
from bastide.model.catalog import AbsolutePath
from bastide.model.service import Service
from bastide.operations.architect.advise import advise_service

branch = Branch("/architect")


class AdviseParameters(Service):
    """A service, and the host's folder with catalog entries beside those that the host knows (root@pam alone)."""

    catalog: Annotated[AbsolutePath | None, Field(description="only root@pam may use it")] = None


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Index."""
    return index("name", "advise", "apply", "capacity", "catalog", "compare", "destroy", "install", "plan", "review")


@branch.post("/advise", AdviseParameters, user="all", nested=True, answer=Advice)
async def advise(call: Call, p: AdviseParameters) -> AdviceAnswer:
    """Which kind of guest a service should be on this host, and why.

    Every key may be missing: what is not said is taken from the catalog, or assumed and said so. Nothing is made.
    """
    if p.catalog is not None and not call.is_root:
        raise PermissionDenied("Permission check failed (only root may use 'catalog')")
    service = Service.model_validate(p.model_dump(exclude={"catalog"}))
    advice = await advise_service(call.rooms, service, catalog=Path(p.catalog) if p.catalog is not None else None)
    return advice.model_dump(mode="json")
