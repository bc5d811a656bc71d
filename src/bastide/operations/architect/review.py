"""The story of a review: what each guest used, its settings, what runs in it, and what follows. Nothing is changed.

Windows of an hour and a day are made of minutes. Longer ones are made of coarser samples, each with its mean and its
highest minute; `Measured` says which of them judges what.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from bastide.metrics import series
from bastide.metrics.sampler import guest_cpus, guest_disk, guest_memory
from bastide.metrics.series import Consolidation
from bastide.model.advice import Cost
from bastide.model.guest import Guest, GuestState
from bastide.model.review import GuestReview, Inside, Measured, Observed, Review, Saving, Window
from bastide.model.service import Choice
from bastide.operations.architect import looking
from bastide.operations.rooms import Rooms

_AT_ONCE = 16
"""Agents that are asked at a time."""

_DISTINCT = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9.-]*", re.ASCII)
"""A name that commands do not take for a vmid or an option."""

Row = Mapping[str, float | int]


async def review_guests(rooms: Rooms, guests: Sequence[Guest], window: Window) -> Review:
    """Findings about these guests from the samples of a window; templates and guests in the making are left out."""
    from bastide.architect.review import judged  # noqa: PLC0415 - the rules are loaded by whoever asks them

    observed, costs = await observe(rooms, guests, window), await _costs(rooms)
    reviews: tuple[GuestReview, ...] = await asyncio.to_thread(
        lambda: tuple(judged(one, window, costs) for one in observed)
    )
    waste = (found.saving for one in reviews for found in one.findings if found.severity == "waste")
    return Review(window=window, taken=int(time.time()), saving=sum(waste, Saving()), guests=reviews)


async def observe(rooms: Rooms, guests: Sequence[Guest], window: Window) -> list[Observed]:
    """The guests as a review sees them."""
    names = Counter(guest.name for guest in await rooms.guests.list())
    looked_at = [guest for guest in guests if not guest.config.get("template") and guest.config.get("lock") != "create"]
    running = {guest.vmid for guest in looked_at if rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED}
    inside = await looking.containers(
        rooms, (one.vmid for one in looked_at if one.kind == "lxc" and one.vmid in running)
    )
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(guest: Guest) -> Observed:
        seen: tuple[Inside | None, str] = inside.get(guest.vmid), ""
        async with turns:
            if guest.kind == "qemu" and guest.vmid in running:
                seen = await looking.vm(rooms, guest)
            ref = guest.name if _DISTINCT.fullmatch(guest.name) and names[guest.name] == 1 else str(guest.vmid)
            return await _observed(rooms, guest, window, ref, seen)

    return list(await asyncio.gather(*map(one, looked_at)))


async def _observed(rooms: Rooms, guest: Guest, window: Window, ref: str, seen: tuple[Inside | None, str]) -> Observed:
    means, peaks = await _samples(rooms, guest, window)
    taken = [row for row in means if "mem" in row]
    # What waits for the next start has been mended: it is judged as if it were so already.
    wanted = guest.with_config(guest.wanted_config)
    running = rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED
    live = rooms.sampler.live(guest) if running else None
    used = rooms.engine(guest).usage(guest.vmid, stalls=True) if running else None
    return Observed(
        vmid=guest.vmid,
        name=guest.name,
        ref=ref,
        kind="ct" if guest.kind == "lxc" else "vm",
        config=wanted.config,
        running=running,
        cpus=guest_cpus(wanted),
        memory_limit=guest_memory(wanted),
        disk_limit=guest_disk(wanted),
        emulated=_emulated(rooms, guest),
        uptime=_uptime(rooms, guest) if running else 0.0,
        unused_for=None if running else await _unused_for(rooms, guest),
        samples=len(taken),
        buckets=series.buckets(window),
        since=int(taken[0]["time"]) if taken else None,
        cpu=Measured(_processors(means), _processors(peaks)),
        memory=_measured(means, peaks, "mem"),
        disk=_measured(means, peaks, "disk"),
        disk_now=live.disk if live is not None else None,
        cpu_pressure=_measured(means, peaks, "pressurecpusome"),
        memory_pressure=_measured(means, peaks, "pressurememorysome"),
        io_pressure=_measured(means, peaks, "pressureiosome"),
        swap=live.swap if live is not None else 0,
        oom_kills=used.oom_kills if used is not None else None,
        inside=seen[0],
        unseen=seen[1],
    )


async def _samples(
    rooms: Rooms, guest: Guest, window: Window
) -> tuple[list[dict[str, float | int]], list[dict[str, float | int]]]:
    means = await _rows(rooms, guest, window, "AVERAGE")
    return means, means if window in ("hour", "day") else await _rows(rooms, guest, window, "MAX")


async def _rows(rooms: Rooms, guest: Guest, window: Window, cf: Consolidation) -> list[dict[str, float | int]]:
    return await rooms.sampler.rrddata(f"guest/{guest.vmid}", window, cf)


def _measured(means: Sequence[Row], peaks: Sequence[Row], key: str) -> Measured:
    return Measured(
        tuple(float(row[key]) for row in means if key in row), tuple(float(row[key]) for row in peaks if key in row)
    )


def _processors(rows: Sequence[Row]) -> tuple[float, ...]:
    """From shares of the processors that the guest had at the time."""
    return tuple(float(row["cpu"]) * float(row["maxcpu"]) for row in rows if "cpu" in row and "maxcpu" in row)


def _emulated(rooms: Rooms, guest: Guest) -> bool:
    status = rooms.vms.known_status(guest.vmid) if guest.kind == "qemu" else None
    return status is not None and status.accelerator == "tcg"


def _uptime(rooms: Rooms, guest: Guest) -> float:
    now = time.time()
    return max(0.0, now - (rooms.engine(guest).started_at(guest.vmid) or now))


async def _unused_for(rooms: Rooms, guest: Guest) -> float | None:
    """Seconds since the last sample of a guest, None when it has none: it may be new, or older than the series."""
    for window in ("day", "month", "year"):
        taken = [row["time"] for row in await _rows(rooms, guest, window, "AVERAGE") if "mem" in row]
        if taken:
            return max(0.0, time.time() - taken[-1])
    return None


async def _costs(rooms: Rooms) -> dict[Choice, Cost]:
    """What an idle guest of each kind takes on this host."""
    from bastide.architect.cost import cost  # noqa: PLC0415
    from bastide.operations.architect import advise, compare  # noqa: PLC0415

    host, comparison = await advise.facts(rooms), await compare.latest(rooms)
    return {"ct": cost("ct", host, comparison), "vm": cost("vm", host, comparison)}
