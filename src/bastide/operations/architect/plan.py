"""What a plan comes to on this host: each service's kind, size and settings, and what applying it would do."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bastide.architect import differences
from bastide.architect.differences import Order
from bastide.base.errors import BastideError, InvalidParameter
from bastide.model import documents
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.documents import Path, line_of, shown
from bastide.model.guest import Kind
from bastide.model.homelab import COPIES_LIMIT, Decision, Homelab, PlannedService, Step
from bastide.model.service import ENGINE, Service
from bastide.operations.architect import guest_images
from bastide.operations.architect.plans import Book, present_guests
from bastide.operations.rooms import Rooms

WHAT = "plan"
"""What errors that belong to no line call the text."""

Adviser = Callable[[Service], tuple[Advice, CatalogEntry | None]]

_STRENGTHS = ("hard", "strong", "weak")


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan with what the architect decided for each service. `lines` are the places in its text."""

    plan: Homelab
    orders: Mapping[str, Order]
    lines: Mapping[Path, int]

    def decisions(self) -> Iterator[Decision]:
        """What is told of each service."""
        for index, service in enumerate(self.plan.services):
            yield _decision(self.plan, service, self.orders[service.name], line_of(("services", index), self.lines))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What applying a plan would do now. `book` is its record."""

    decided: Decided
    book: Book
    steps: list[Step] = field(default_factory=list)

    @property
    def plan(self) -> Homelab:
        """The plan."""
        return self.decided.plan


async def plan(rooms: Rooms, text: str, *, copies: int | None = None) -> list[Outlook]:
    """What a plan means on this host: one outlook, or one for each of the `copies`. Nothing is changed.

    Raises InvalidParameter that names the line of everything that is wrong.
    """
    return await outlooks(rooms, await decide(rooms, text, copies=copies))


async def decide(rooms: Rooms, text: str, *, copies: int | None = None) -> list[Decided]:
    """Read a plan and let the architect decide. Raises InvalidParameter that names the line."""
    whole = documents.parse(text, Homelab, WHAT)
    _, lines = documents.load(text, WHAT)
    adviser, facts = await _adviser(rooms)
    problems: dict[Path, str] = {}
    found = []
    for homelab in environments(whole, copies):
        orders = await asyncio.to_thread(_orders, homelab, adviser, facts, problems)
        problems.update(differences.contradictions(homelab, orders, facts))
        found.append(Decided(homelab, orders, lines))
    await _check_images(rooms, found, problems)
    if copies is not None and copies > 1:
        problems.update(_shared_addresses(whole))
    _refuse(problems, lines)
    return found


async def decide_alone(rooms: Rooms, service: PlannedService) -> Order:
    """What one service comes to on this host outside of any plan. Raises InvalidParameter that names its keys."""
    adviser, facts = await _adviser(rooms)
    wish = Service.model_validate({key: getattr(service, key) for key in Service.model_fields})
    advice, entry = await asyncio.to_thread(adviser, wish)
    order = differences.order("", service, advice, facts, entry)
    alone = Homelab(name="alone", services=(service,))
    problems = differences.contradictions(alone, {service.name: order}, facts)
    await _check_images(rooms, [Decided(alone, {service.name: order}, {})], problems)
    if problems:
        raise InvalidParameter({str(path[2]): why for path, why in problems.items()})
    return order


def environments(whole: Homelab, copies: int | None) -> list[Homelab]:
    """The plan itself, or `copies` separate ones. Raises InvalidParameter."""
    if copies is None:
        return [whole]
    if not 1 <= copies <= COPIES_LIMIT:
        raise InvalidParameter({"copies": f"between 1 and {COPIES_LIMIT}"})
    try:
        return [whole.numbered(number) for number in range(1, copies + 1)]
    except ValueError as error:
        raise InvalidParameter({"copies": str(error)}) from None


async def outlooks(rooms: Rooms, decided: list[Decided]) -> list[Outlook]:
    """Compare plans with their records and with what exists. Raises InvalidParameter that names the line."""
    present = await present_guests(rooms)
    found = []
    problems: dict[Path, str] = {}
    for one in decided:
        book = await Book.open(rooms, one.plan.name)
        steps, wrong = differences.steps(one.plan, one.orders, book.record, present)
        problems.update(wrong)
        found.append(Outlook(one, book, steps))
    _refuse(problems, decided[0].lines)
    return found


async def _adviser(rooms: Rooms) -> tuple[Adviser, HostFacts]:
    """The architect with all that it knows of this host, gathered once for all services."""
    from bastide.architect.advice import advise  # noqa: PLC0415 - with all rules, for those who ask
    from bastide.operations.architect.advise import facts  # noqa: PLC0415
    from bastide.operations.architect.catalog import load  # noqa: PLC0415
    from bastide.operations.architect.compare import latest  # noqa: PLC0415

    host, catalog, comparison = await facts(rooms), await load(rooms), await latest(rooms)

    def ask(service: Service) -> tuple[Advice, CatalogEntry | None]:
        entry = catalog.find(service.service) if service.service is not None else None
        return advise(service, entry, host, comparison), entry

    return ask, host


def _orders(homelab: Homelab, adviser: Adviser, facts: HostFacts, problems: dict[Path, str]) -> dict[str, Order]:
    orders: dict[str, Order] = {}
    for index, service in enumerate(homelab.services):
        wish = Service.model_validate({key: getattr(service, key) for key in Service.model_fields})
        try:
            advice, entry = adviser(wish)
            orders[service.name] = differences.order(homelab.name, service, advice, facts, entry)
        except InvalidParameter as error:
            for key, why in error.errors.items():
                place = key if key in PlannedService.model_fields else "name"
                problems["services", index, place] = why if place == key else f"{key}: {why}"
        except BastideError as error:
            problems["services", index, "service"] = str(error)
    return orders


async def _check_images(rooms: Rooms, decided: list[Decided], problems: dict[Path, str]) -> None:
    """Every image must be there or be one that can be had."""
    seen: dict[tuple[str, Kind], bool] = {}
    for one in decided:
        for index, service in enumerate(one.plan.services):
            order = one.orders.get(service.name)
            if order is None:
                continue
            key = (order.image, ENGINE[order.kind])
            if key not in seen:
                named = service.image is not None
                there = guest_images.obtainable(*key, named=named) or await guest_images.known(rooms, *key)
                seen[key] = bool(order.image and there)
            if not seen[key]:
                problems.setdefault(("services", index, "image" if service.image else "os"), _no_image(order))


def _no_image(order: Order) -> str:
    if not order.image:
        return (
            f"{order.advice.os} is installed from a medium of its own, not by a plan: say image: with a disk image "
            f"that is installed already, or install it by hand: {order.advice.command}"
        )
    return (
        f"there is no image '{order.image}' for a {order.kind.upper()} here: bastide image ls shows those that are; "
        "say one by image:, or a URL"
    )


def _shared_addresses(whole: Homelab) -> dict[Path, str]:
    return {
        ("services", index, "network", "ip"): "copies would share the address: leave it to DHCP"
        for index, service in enumerate(whole.services)
        if "/" in service.network.ip
    }


def _refuse(problems: Mapping[Path, str], lines: Mapping[Path, int]) -> None:
    if not problems:
        return
    told: dict[str, str] = {}
    for path in sorted(problems, key=lambda path: (line_of(path, lines) or 0, str(path))):
        told[f"line {line_of(path, lines) or 1}: {shown(path)}"] = problems[path]
    raise InvalidParameter(told)


def _decision(homelab: Homelab, service: PlannedService, order: Order, line: int | None) -> Decision:
    advice = order.advice
    fired = sorted(advice.rules, key=lambda rule: _STRENGTHS.index(rule.strength))
    return Decision(
        plan=homelab.name,
        service=service.name,
        line=line,
        guests=service.guests,
        kind=advice.kind,
        os=advice.os,
        title=advice.title,
        confidence=advice.confidence,
        reason=fired[0].statement if fired else advice.summary,
        cores=advice.sizing.cores,
        memory=advice.sizing.memory,
        disk=advice.sizing.disk,
        settings=advice.settings,
        installs=order.recipe is not None,
        warnings=tuple(_warnings(order)),
    )


def _warnings(order: Order) -> list[str]:
    """What is worth a word; that an image is missing is not, since applying obtains it."""
    advice = order.advice
    told = [*_guessed(order), *advice.conflicts, *advice.warnings]
    return [one for one in told if not (order.image and one.startswith("image: "))]


def _guessed(order: Order) -> list[str]:
    """A misspelled service is worth a word: it is made as what it is taken for."""
    asked, entry = order.service.service, order.entry
    if asked is None or entry is None or asked in (entry.name, *entry.aliases):
        return []
    return [f"service: '{asked}' is taken for {entry.name}"]
