"""`/architect/review`: guests of the wrong size or the wrong kind."""

from typing import Any

from bastide.api.execute import GuestName
from bastide.api.lists import find_guest, guests_seen
from bastide.api.routing import Branch, Call
from bastide.model.record import Record
from bastide.model.review import Review, Window
from bastide.operations.architect.review import review_guests

branch = Branch("/architect/review")


class ReviewQuery(Record):
    """The span whose samples are judged, and one guest, by its vmid or its name, in place of all."""

    window: Window = "week"
    guest: GuestName | None = None


@branch.get("", ReviewQuery, user="all", answer=Review)
async def read_review(call: Call, p: ReviewQuery) -> dict[str, Any]:
    """Findings about the guests that the caller may see, with the commands that mend them. Nothing is changed."""
    if p.guest is None:
        guests = await guests_seen(call)
    else:
        guest = await find_guest(call, p.guest)
        await call.require(f"/vms/{guest.vmid}", "VM.Audit")
        guests = [guest]
    review = await review_guests(call.rooms, guests, p.window)
    return review.model_dump(mode="json")
