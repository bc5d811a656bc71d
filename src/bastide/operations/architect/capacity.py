"""The story of a capacity: what this host has, what its guests are promised, what they use, and what still fits."""

import asyncio
import json
import sys
from collections.abc import Sequence

from bastide.architect import capacity as room
from bastide.architect.cost import cost
from bastide.architect.outlook import outlook
from bastide.base.errors import BastideError, HostFailure, RunError
from bastide.host import facts as machine
from bastide.host import run, sampling
from bastide.metrics.sampler import guest_cpus, guest_memory
from bastide.model.advice import HostFacts
from bastide.model.capacity import Capacity, Example, Resource, StorageRoom
from bastide.model.guest import Guest
from bastide.model.placement import Placement, PlacementProblem
from bastide.model.service import Choice
from bastide.operations.architect import compare
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import Storage

_solving = asyncio.Semaphore(1)  # each takes all processors and some hundred MiB
_EXPLAINING = 30.0
"""Seconds beyond its own time that a placement may take: to start, to build its model, to tell what clashes."""


async def capacity(rooms: Rooms, example: Example) -> Capacity:
    """What still fits on this host, of each kind."""
    guests = [guest for guest in await rooms.guests.list() if not guest.config.get("template")]
    kvm = rooms.vms.accelerator[0] == "kvm"
    facts = HostFacts(node=rooms.node, kvm=kvm)
    comparison = await compare.latest(rooms)
    cores, memory = await asyncio.to_thread(_cores, rooms, guests), await asyncio.to_thread(_memory, rooms, guests)
    storages = [
        await _storage(rooms, storage) for storage in await rooms.storages.all() if _holds_guests(rooms, storage)
    ]
    known = [storage for storage in storages if storage is not None]
    kinds: tuple[Choice, ...] = ("ct", "vm")
    notes = [] if kvm else ["this host has no KVM: VMs are emulated, which costs speed and memory"]
    return Capacity(
        node=rooms.node,
        kvm=kvm,
        guests={"ct": sum(one.kind == "lxc" for one in guests), "vm": sum(one.kind == "qemu" for one in guests)},
        example=example,
        cores=cores,
        memory=memory,
        storages=tuple(known),
        fits=tuple(
            room.fit(kind, example, cores=cores, memory=memory, storages=known, cost=cost(kind, facts, comparison))
            for kind in kinds
        ),
        notes=tuple(notes),
    )


async def place(problem: PlacementProblem) -> Placement:
    """Solve a placement in a process of its own: the solver takes memory that the daemon would never give back.

    One at a time; others wait. Raises DeadlineExceeded and HostFailure.
    """
    argv = [sys.executable, "-I", "-m", "bastide.operations.architect.placing"]
    try:
        async with _solving:
            done = await run.run(argv, input=problem.model_dump_json().encode(), deadline=problem.seconds + _EXPLAINING)
    except RunError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HostFailure(f"the placement could not be solved: {last}") from error
    return Placement.model_validate(json.loads(done.stdout))


def _cores(rooms: Rooms, guests: Sequence[Guest]) -> Resource:
    present = machine.cpu_count()
    return Resource(
        total=present * room.OVERCOMMIT,
        used=round((rooms.sampler.node_live().cpu or 0.0) * present, 2),
        promised=sum(_promised_cores(guest) for guest in guests),
        spared=0,
    )


def _promised_cores(guest: Guest) -> int:
    """A container without a limit may use every processor that is idle, which is no promise of more than one."""
    if guest.kind == "lxc" and not guest.config.get("cores") and not guest.config.get("cpulimit"):
        return 1
    return max(1, round(guest_cpus(guest)))


def _memory(rooms: Rooms, guests: Sequence[Guest]) -> Resource:
    memory = sampling.memory()
    running = rooms.engines.running()
    sampled = [rooms.sampler.sampled(guest) for guest in guests if guest.vmid in running]
    theirs = sum(one.mem for one in sampled if one is not None)
    used = memory.total - memory.available
    return Resource(
        total=memory.total,
        used=used,
        promised=sum(guest_memory(guest) for guest in guests),
        spared=int(memory.total * room.MEMORY_SPARED),
        host=max(0, used - theirs),
    )


def _holds_guests(rooms: Rooms, storage: Storage) -> bool:
    return rooms.storages.enabled(storage.config) and bool(_kinds(storage))


def _kinds(storage: Storage) -> tuple[Choice, ...]:
    contents = storage.config.contents & storage.capabilities.contents
    kinds: list[Choice] = []
    if "rootdir" in contents:
        kinds.append("ct")
    if "images" in contents:
        kinds.append("vm")
    return tuple(kinds)


async def _storage(rooms: Rooms, storage: Storage) -> StorageRoom | None:
    """A storage's room; None for one that cannot be reached."""
    try:
        usage = await storage.usage()
        volumes = [*await storage.list("rootdir"), *await storage.list("images")]
    except (BastideError, OSError):
        return None
    if not usage.active:
        return None
    rows = await rooms.sampler.rrddata(f"storage/{storage.config.storage}", "month")
    samples = [(float(row["time"]), float(row["used"])) for row in rows if "used" in row]
    seen = {volume.volid: volume for volume in volumes}
    promised = sum(volume.size for volume in seen.values())
    taken = sum(min(volume.size, volume.used or 0) for volume in seen.values())
    total = usage.used + usage.available  # what a file system keeps for root is nobody's
    return StorageRoom(
        storage=storage.config.storage,
        kinds=_kinds(storage),
        space=Resource(
            total=total,
            used=usage.used,
            promised=promised,
            spared=int(total * room.DISK_SPARED),
            host=max(0, usage.used - taken),
        ),
        outlook=outlook(samples, total, usage.used),
    )
