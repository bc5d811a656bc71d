"""The story of applying a plan: walk its steps in the order of what depends on what, several at once.

A guest's vmid is chosen and written down before the guest is made. What fails does not keep others from going on, only
what depends on it; what is not done is done by the next run.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Protocol

from bastide.architect.differences import Order, removal, watched
from bastide.base.errors import AlreadyExists, BastideError, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.base.ids import VMID_MIN, Upid
from bastide.model import documents
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.homelab import Homelab, Placed, Step
from bastide.model.service import ENGINE
from bastide.operations.architect import deploy
from bastide.operations.architect.changes import Change, apply_change, change_of
from bastide.operations.architect.guest_images import Images
from bastide.operations.architect.plan import WHAT, Outlook, decide, environments, outlooks
from bastide.operations.architect.plans import Book, own_guest, reserved
from bastide.operations.architect.subtasks import Part, finished
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

AT_ONCE = 4
"""How many guests are worked on at the same time, at most."""

_TRIES = 5
_LABEL_LIMIT = 60


class Permit(Protocol):
    """Whether the caller may do what a plan needs. Each raises PermissionDenied."""

    async def image(self, image: str, order: Order) -> None:
        """Use an image, or build or pull it."""

    async def create(self, order: Order, name: str, vmid: int) -> None:
        """Make a guest, start it and install in it."""

    async def change(self, guest: Guest, change: Change) -> None:
        """Set and delete options of a guest."""

    async def grow(self, guest: Guest) -> None:
        """Grow a guest's disk."""

    async def finish(self, order: Order, guest: Guest) -> None:
        """Start a guest and install in it."""

    async def remove(self, guest: Guest) -> None:
        """Remove a guest."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A guest of the plan with its step."""

    step: Step
    book: Book
    order: Order | None = None
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a run shall do, and for whom. `notes` are told in its log."""

    rooms: Rooms
    by: Identity
    permit: Permit
    nodes: list[_Node]
    books: list[Book]
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """A run at work."""

    rooms: Rooms
    by: Identity
    permit: Permit
    task: Task
    images: Images
    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """Guests that do not answer, so that what comes after them is left out."""


async def apply(
    rooms: Rooms,
    by: Identity,
    text: str,
    permit: Permit,
    *,
    copies: int | None = None,
    prune: bool = False,
    replace: bool = False,
) -> Upid:
    """Make a plan, or `copies` of it, come true, as a task.

    `prune` removes guests that are no longer in it, `replace` makes guests anew that cannot be changed into what is
    wanted. Raises InvalidParameter naming lines, WrongState for a guest to replace without `replace`, PermissionDenied,
    Locked while another task works on the plan.
    """
    decided = await decide(rooms, text, copies=copies)
    async with rooms.guests.numbering:
        looks = await outlooks(rooms, decided)
        _refuse_replacing(looks, replace=replace)
        taken = {guest.vmid for guest in await rooms.guests.list()} | rooms.guests.unreadable() | await reserved(rooms)
        nodes = [node for look in looks for node in _nodes(look, taken, prune=prune)]
        await _check_permits(rooms, permit, nodes)
        books = [look.book for look in looks]
        for book in books:
            await book.refuse_busy()
            await book.put(_chosen(nodes, book))
        left = [step.guest for look in looks for step in look.steps if step.action == "remove" and not prune]
        notes = [f"{name} is not in the plan any more and stays: --prune removes it" for name in left]
        what = _label(looks[0].plan.name, copies)
        return await _started(_Wanted(rooms, by, permit, nodes, books, notes), "apply", what)


async def destroy(
    rooms: Rooms, by: Identity, permit: Permit, *, text: str | None = None, name: str | None = None,
    copies: int | None = None,
) -> Upid:  # fmt: skip
    """Remove every guest of a plan, named by itself or by its text, as a task.

    Raises NotFound for a plan that was never applied, PermissionDenied, Locked.
    """
    names = plan_names(text, name, copies)
    async with rooms.guests.numbering:
        books = [book for one in names if (book := await Book.open(rooms, one)).guests]
        if not books:
            shown = ", ".join(f"'{one}'" for one in names[:3])
            raise NotFound(f"no such plan {shown}: it has no guests here")
        nodes = [_Node(removal(book.record.name, *item, None), book) for book in books for item in book.guests.items()]
        await _check_permits(rooms, permit, nodes)
        for book in books:
            await book.refuse_busy()
        what = _label(books[0].record.name, copies)
        return await _started(_Wanted(rooms, by, permit, nodes, books), "destroy", what)


def plan_names(text: str | None, name: str | None, copies: int | None) -> list[str]:
    """The names of the plans that a caller means. Raises InvalidParameter."""
    if text is not None:
        return [one.name for one in environments(documents.parse(text, Homelab, WHAT), copies)]
    if name is None:
        raise InvalidParameter({"name": "give the plan's name or its text"})
    return [name] if copies is None else [f"{name}-{number}" for number in range(1, copies + 1)]


async def _started(wanted: _Wanted, kind: str, what: str) -> Upid:
    """Start the task; returns when it has claimed the plans, so that a second one is refused."""
    claimed = asyncio.Event()

    async def work(task: Task) -> None:
        try:
            for book in wanted.books:
                await book.claim(str(task.upid))
        finally:
            claimed.set()
        await _walk(wanted, task)

    upid = await wanted.rooms.tasks.start(kind, what, wanted.by, work)
    await claimed.wait()
    return upid


def _label(name: str, copies: int | None) -> str:
    return (name.rpartition("-")[0] if copies is not None else name)[:_LABEL_LIMIT]


def _refuse_replacing(looks: list[Outlook], *, replace: bool) -> None:
    doomed = [step for look in looks for step in look.steps if step.action == "replace"]
    if doomed and not replace:
        shown = "; ".join(
            f"{step.guest} ({', '.join(f'{one.key}: {one.present} -> {one.wanted}' for one in step.differences)})"
            for step in doomed[:5]
        )
        raise WrongState(f"to be made anew, which destroys their data: {shown}; apply with --replace if that is meant")


def _nodes(look: Outlook, taken: set[int], *, prune: bool) -> list[_Node]:
    """The steps to walk, with a vmid for every guest. `taken` grows by those."""
    guests = {service.name: service.guests for service in look.plan.services}
    nodes = []
    for step in look.steps:
        if step.action == "remove":
            nodes += [_Node(step, look.book)] if prune else []
            continue
        vmid = step.vmid
        if vmid is None:
            vmid = next(number for number in range(VMID_MIN, VMID_MIN + len(taken) + 1) if number not in taken)
            taken.add(vmid)
        order = look.decided.orders[step.service]
        after = tuple(guest for name in order.service.after for guest in guests[name])
        nodes.append(_Node(step.model_copy(update={"vmid": vmid}), look.book, order, after))
    return nodes


def _chosen(nodes: list[_Node], book: Book) -> dict[str, Placed]:
    """What the record says of guests that will be made, before they are."""
    return {
        node.step.guest: _planned(node.order, node.step.vmid)
        for node in nodes
        if node.book is book and node.order is not None and node.step.vmid is not None
        and node.step.action == "create" and node.step.guest not in book.guests
    }  # fmt: skip


def _planned(order: Order, vmid: int) -> Placed:
    return Placed(
        service=order.service.name, vmid=vmid, kind=order.kind, origin=dict(order.origin), wanted=dict(order.wanted)
    )


async def _check_permits(rooms: Rooms, permit: Permit, nodes: list[_Node]) -> None:
    for node in nodes:
        step, order = node.step, node.order
        placed = node.book.guests.get(step.guest)
        guest = await own_guest(rooms, step.plan, step.guest, placed) if placed is not None else None
        if guest is not None and "remove" in step.work:
            await permit.remove(guest)
        if order is None or step.vmid is None:
            continue
        if "create" in step.work:
            await permit.image(order.image, order)
            await permit.create(order, step.guest, step.vmid)
        elif guest is not None:
            if "change" in step.work:
                await permit.change(guest, change_of(guest, step.differences))
            if "grow" in step.work:
                await permit.grow(guest)
            if "finish" in step.work:
                await permit.finish(order, guest)


async def _walk(wanted: _Wanted, task: Task) -> None:
    """Walk the steps. Raises HostFailure that names what failed and what was left out for it."""
    rooms, by = wanted.rooms, wanted.by
    for note in wanted.notes:
        task.log(note)
    total = sum(bool(node.step.work) for node in wanted.nodes)
    run = _Run(rooms, by, wanted.permit, task, Images(rooms, by, task), total)
    try:
        await _in_order(run, {node.step.guest: node for node in wanted.nodes})
    finally:
        await run.images.close()
    if run.failed:
        told = "; ".join(f"{name}: {why}" for name, why in run.failed.items())
        raise HostFailure(f"{len(run.failed)} of {total} failed: {told}")
    task.log(f"changed: {total}" if total else "0 changes: everything is as the plan wants it")


async def _in_order(run: _Run, nodes: Mapping[str, _Node]) -> None:
    sorter = TopologicalSorter({name: [one for one in node.after if one in nodes] for name, node in nodes.items()})
    sorter.prepare()
    places = asyncio.Semaphore(min(AT_ONCE, max(2, os.cpu_count() or 1)))
    working: dict[asyncio.Task[None], str] = {}
    try:
        while sorter.is_active():
            for name in sorter.get_ready():
                working[asyncio.create_task(_one(run, nodes[name], places))] = name
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                name = working.pop(one)
                one.result()
                sorter.done(name)
    finally:
        for one in working:
            one.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def _one(run: _Run, node: _Node, places: asyncio.Semaphore) -> None:
    """One guest's step; what goes wrong is noted, so that others go on."""
    name = node.step.guest
    if not node.step.work:
        return
    missing = [other for other in node.after if other in run.absent]
    if missing:
        run.failed[name] = f"left out, because {missing[0]} failed"
        run.absent.add(name)
        run.task.log(f"{name}: {run.failed[name]}")
        return
    async with places:
        part = Part(run.task, name)
        try:
            await _work(run, node, part)
        except BastideError as error:
            run.failed[name] = " ".join(str(error).split())
            if "finish" in node.step.work:
                run.absent.add(name)
            part.log(f"failed: {run.failed[name]}")
            return
    run.done += 1
    run.task.log(f"{100 * run.done // run.total:3d}% {name}: {_DONE[node.step.action]}")


_DONE: Mapping[str, str] = {
    "create": "runs", "replace": "was made anew and runs", "change": "changed", "drift": "mended", "remove": "removed",
    "keep": "kept",
}  # fmt: skip


async def _work(run: _Run, node: _Node, part: Part) -> None:
    step, order, book = node.step, node.order, node.book
    if "remove" in step.work:
        await _remove(run, node, part)
    if order is None:
        return
    if "create" in step.work:
        await _make(run, node, order, part)
    placed = book.guests[step.guest]
    guest = await run.rooms.guests.get(placed.vmid)
    if "change" in step.work:
        await apply_change(run.rooms, run.by, guest, change_of(guest, step.differences), part)
    if "grow" in step.work:
        await _grow(run, order, guest)
    if "finish" in step.work:
        guest = await run.rooms.guests.get(placed.vmid)
        await deploy.finish(run.rooms, run.by, order, guest, part, install=placed.state != "ready")
    guest = await run.rooms.guests.get(placed.vmid)
    ready = placed.model_copy(
        update={"state": "ready", "wanted": dict(order.wanted), "seen": watched(guest.wanted_config)}
    )
    await book.put({step.guest: ready})


async def _grow(run: _Run, order: Order, guest: Guest) -> None:
    try:
        await deploy.grow(run.rooms, run.by, order, await run.rooms.guests.get(guest.vmid))
    except HostFailure as error:
        if run.rooms.engine(guest).state(guest.vmid) is GuestState.STOPPED:
            raise
        raise HostFailure(f"{error} (bastide stop {guest.name}, then apply again)") from None


async def _make(run: _Run, node: _Node, order: Order, part: Part) -> None:
    """Make the guest under the vmid that was chosen, or under the next free one when another guest took it."""
    name, book = node.step.guest, node.book
    volume = await run.images.obtain(order.image, ENGINE[order.kind])
    vmid, tries = node.step.vmid or await _another(run, order, name), 1
    while True:
        await book.put({name: _planned(order, vmid)})
        part.log(f"making {order.kind.upper()} {vmid}: {order.advice.summary}")
        try:
            await deploy.make(run.rooms, run.by, deploy.Making(order, name, vmid, volume))
            break
        except AlreadyExists:
            if tries == _TRIES:
                raise
        vmid, tries = await _another(run, order, name), tries + 1
    await book.put({name: book.guests[name].model_copy(update={"state": "made"})})


async def _another(run: _Run, order: Order, name: str) -> int:
    taken = await reserved(run.rooms)
    vmid = await run.rooms.guests.next_vmid()
    while vmid in taken:
        vmid = await run.rooms.guests.next_vmid(vmid + 1)
    await run.permit.create(order, name, vmid)
    return vmid


async def _remove(run: _Run, node: _Node, part: Part) -> None:
    name, book = node.step.guest, node.book
    placed = book.guests.get(name)
    if placed is None:
        return
    guest = await own_guest(run.rooms, node.step.plan, name, placed)
    if guest is not None:
        part.log(f"removing {guest.title}")
        await finished(run.rooms, destroy_guest(run.rooms, run.by, guest.vmid, force=True))
    await book.drop(name)
