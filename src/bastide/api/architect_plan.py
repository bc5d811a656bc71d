"""`/architect/plan`, `/apply`, `/destroy`, `/plans`: the services that a plan lists."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.architect_permits import Permits
from bastide.api.routing import Branch, Call, NoParameters
from bastide.model.audit import Bulk
from bastide.model.documents import TEXT_LIMIT
from bastide.model.homelab import COPIES_LIMIT, KnownGuest, KnownPlan, PlanOutlook
from bastide.model.homelab_schema import schema
from bastide.model.record import Multiline, Record
from bastide.operations.architect import apply, plan
from bastide.operations.architect.plans import PlannedGuest, known_plans, working

branch = Branch("/architect")

_Text = Annotated[str, Multiline(), Field(min_length=1, max_length=TEXT_LIMIT), Bulk()]
_PlanName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._+-]{0,62}$")]


class _Copies(Record):
    copies: Annotated[int | None, Field(ge=1, le=COPIES_LIMIT)] = None


class PlanText(_Copies):
    """A plan: the text of a homelab.yaml. With `copies` as many separate environments of it: `NAME-1`, `NAME-2` ..."""

    text: _Text


class ApplyText(PlanText):
    """The same to apply.

    `prune` removes guests that are no longer in the plan; `replace` makes guests anew that cannot be changed into what
    is wanted, which destroys their data.
    """

    prune: bool = False
    replace: bool = False


class DestroyPlan(_Copies):
    """A plan by its text or its name."""

    text: _Text | None = None
    name: _PlanName | None = None


@branch.post("/plan", PlanText, user="all", answer=list[PlanOutlook], event=None)
async def read_plan(call: Call, p: PlanText) -> list[dict[str, Any]]:
    """What the architect decides for each service of a plan, and what applying it would change. Nothing is made.

    Errors name the line of the text. Needs VM.Audit on the guests that the plan has already.
    """
    looks = await plan.plan(call.rooms, p.text, copies=p.copies)
    for look in looks:
        for step in look.steps:
            if step.guest in look.book.guests:
                await call.require(f"/vms/{step.vmid}", "VM.Audit")
    return [
        PlanOutlook(name=look.plan.name, decisions=tuple(look.decided.decisions()), steps=tuple(look.steps)).model_dump(
            mode="json"
        )
        for look in looks
    ]


@branch.get("/plan/schema", NoParameters, user="all")
async def read_schema(_call: Call, _p: NoParameters) -> dict[str, Any]:
    """The JSON schema of a plan's text."""
    return schema()


@branch.post("/apply", ApplyText, user="all")
async def apply_plan(call: Call, p: ApplyText) -> str:
    """Make a plan's guests, in the order of their dependencies, as a task; a second time changes nothing.

    Needs for each guest what making, changing or removing it by itself needs, and for a service that is installed what
    commands in the guest need. A task that was interrupted is gone on with by the next call.
    """
    upid = await apply.apply(
        call.rooms, call.identity, p.text, Permits(call), copies=p.copies, prune=p.prune, replace=p.replace
    )
    return str(upid)


@branch.post("/destroy", DestroyPlan, user="all")
async def destroy_plan(call: Call, p: DestroyPlan) -> str:
    """Remove every guest of a plan with its volumes, as a task. Needs VM.Allocate on each."""
    upid = await apply.destroy(call.rooms, call.identity, Permits(call), text=p.text, name=p.name, copies=p.copies)
    return str(upid)


@branch.get("/plans", NoParameters, user="all", answer=list[KnownPlan])
async def list_plans(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The plans that were applied, with those of their guests that the caller may see."""
    rows = []
    for record, guests in await known_plans(call.rooms):
        seen = [_row(guest) for guest in guests if await call.may(f"/vms/{guest.placed.vmid}", "VM.Audit")]
        if seen:
            row = KnownPlan(name=record.name, task=await working(call.rooms, record), guests=tuple(seen))
            rows.append(row.model_dump(mode="json"))
    return rows


def _row(guest: PlannedGuest) -> KnownGuest:
    placed = guest.placed
    status = guest.here.state if guest.here is not None else "gone" if placed.state != "planned" else "not made"
    return KnownGuest(
        name=guest.name, service=placed.service, vmid=placed.vmid, kind=placed.kind, state=placed.state, status=status
    )
