"""A review: what could be better about guests, from their settings, what they used, and what is seen inside. Pure.

It only ever says; whoever reads it acts. What is too little known to judge is said as well (`unknown`).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from bastide.architect.review_kinds import Costs, kinds, settings, unused
from bastide.architect.review_looks import Looks
from bastide.architect.review_sizes import sizes
from bastide.model.review import Finding, GuestReview, Observed, Severity, Window

_NO_COSTS: Costs = MappingProxyType({})
_ORDER: Mapping[Severity, int] = {"risk": 0, "waste": 1, "note": 2}


def review(guests: Sequence[Observed], window: Window, costs: Costs = _NO_COSTS) -> tuple[Finding, ...]:
    """The findings about the guests: guest by guest in their order, of each the risks first.

    `costs` are what an idle guest of each kind takes on this host.
    """
    return tuple(
        finding
        for one in guests
        for finding in sorted(_findings(Looks(one, window), costs), key=lambda found: _ORDER[found.severity])
    )


def judged(one: Observed, window: Window, costs: Costs = _NO_COSTS) -> GuestReview:
    """A guest's findings, with how much they rest on and what could not be judged."""
    return GuestReview(
        vmid=one.vmid,
        name=one.name,
        kind=one.kind,
        running=one.running,
        samples=one.samples,
        needed=Looks(one, window).needed,
        since=one.since,
        unknown=unknown(one, window),
        findings=review([one], window, costs),
    )


def unknown(one: Observed, window: Window) -> tuple[str, ...]:
    """What could not be judged about a guest, and why."""
    return tuple(_unknown(Looks(one, window)))


def _findings(looks: Looks, costs: Costs) -> Iterator[Finding]:
    yield from settings(looks)
    yield from unused(looks)
    if looks.one.running:
        yield from sizes(looks)
        yield from kinds(looks, costs)


def _unknown(looks: Looks) -> Iterator[str]:
    one = looks.one
    if not one.running:
        yield "it does not run: its size and kind are not judged"
        return
    if not looks.enough:
        sooner = "" if looks.window == "hour" else "; a shorter window is judged sooner"
        yield (
            f"not enough samples to judge its size: {one.samples} over the last {looks.window}, "
            f"{looks.needed} are needed{sooner}"
        )
    elif one.kind == "ct" and one.disk_now is None:
        yield "how full its disk is: its storage does not tell"
    if one.emulated:
        yield "whether its processors are enough: it is emulated"
    if one.inside is None:
        yield f"what runs inside: {one.unseen or 'it could not be looked at'}"
