"""Whether a guest has the size it needs: memory, processors, disk, from what it used over a window."""

import math
from collections.abc import Iterator

from bastide.architect.review_looks import Looks
from bastide.base.units import GIB, MIB, readable
from bastide.model.review import Finding, Observed, Saving

MUCH = 0.9
"""Use of memory, processors or disk from which there is too little of it."""

LITTLE = 0.5
"""Use below which half would do: smaller steps are not worth a change."""

MEMORY_WORTH = 128 * MIB
"""Memory that is worth a change."""

MEMORY_OVER_USUAL, MEMORY_OVER_PEAK = 1.5, 1.25
"""Memory to have above what is used 95 % of the time, and above the highest minute, which is what a guest dies of."""

MEMORY_STEP = 64 * MIB
"""Sizes are proposed in steps of this: a figure that looks exact would claim more than was measured."""

MEMORY_LEAST = {"ct": 128 * MIB, "vm": 512 * MIB}
"""Below this an idle Debian that updates itself does not fit; a VM's is what Debian recommends without a desktop."""

MEMORY_PRESSURE = 10.0
"""Percent of the time that work waits for memory from which it is felt: whatever it does takes a tenth longer. Where
systemd-oomd begins to kill (60 %) is far beyond."""

SWAP_SHARE = 0.1
"""Swapped memory as a share of the limit: a little is what was read once and never again."""

CORES_HEADROOM = 1.5
"""Processors to have above what the busiest minutes use."""

CPU_PRESSURE, CPU_BUSY = 25.0, 0.6
"""Percent of the time that work waits for a processor, if the guest also uses this share of its own: else it waits
because the host is busy, and more processors would not help it."""

IO_PRESSURE = 25.0
"""Percent of the time that work waits for disks: what a busy disk of its own rarely costs."""

DISK_TARGET = 0.7
"""How full a disk is to be after it has grown: file systems slow down and fragment beyond some 80 %."""

DISK_LITTLE, DISK_WORTH = 0.2, 16 * GIB
"""A disk is far too big when less than this share was ever used, and this much would be free with half of it."""


def sizes(looks: Looks) -> Iterator[Finding]:
    """What is wrong with a running guest's size."""
    one = looks.one
    yield from _memory(looks)
    yield from _cores(looks)
    yield from _disk(looks)
    if looks.enough and one.io_pressure.usual >= IO_PRESSURE:
        yield looks.finding(
            "io-pressure",
            "risk",
            f"its work waits for disks {one.io_pressure.usual:.0f} % of the time",
            "it is slower than its disks could let it be, or another guest uses them up",
            how="move its disk to a faster storage, or limit whoever writes most",
        )


def _memory(looks: Looks) -> Iterator[Finding]:
    one = looks.one
    small = list(_too_small(looks))
    if small:
        wanted = _memory_wanted(one)
        # A guest that is short of memory uses what it has: what it would use is not known, half as much again is a try.
        wanted = max(wanted, _step(one.memory_limit * MEMORY_OVER_USUAL))
        sure = any(certain for _, certain in small)
        yield (looks.now if sure else looks.finding)(
            "memory-too-small",
            "risk",
            f"{readable(one.memory_limit)} of memory are too little: " + ", ".join(text for text, _ in small),
            "processes are killed for want of memory, or wait for it",
            commands=(f"bastide set {one.ref} memory={wanted // MIB}",),
            how=_when(one),
        )
        return
    wanted = _memory_wanted(one)
    if looks.enough and _memory_idle(one, wanted):
        saved = one.memory_limit - wanted
        yield looks.finding(
            "memory-too-big",
            "waste",
            f"of {readable(one.memory_limit)} of memory it used {readable(one.memory.high)} or less 95 % of the time "
            f"and {readable(one.memory.peak)} at most, {looks.over}",
            f"{readable(saved)} for other guests",
            saving=Saving(memory=saved),
            commands=(f"bastide set {one.ref} memory={wanted // MIB}",),
            how=_when(one),
        )


def _too_small(looks: Looks) -> Iterator[tuple[str, bool]]:
    """Reasons to think so, and whether each is a fact rather than a matter of samples."""
    one, inside = looks.one, looks.one.inside
    kills = one.oom_kills if one.kind == "ct" else inside and inside.oom_kills
    if kills:
        killed = "1 process was" if kills == 1 else f"{kills} processes were"
        yield f"{killed} killed for want of memory in the {_span(one.uptime)} that it has run", True
    if one.kind == "vm":
        # What QEMU holds is what the guest ever touched, its page cache included: only its own kernel knows.
        if inside is not None and inside.memory_total and inside.memory_available is not None:
            used = inside.memory_total - inside.memory_available
            if used >= MUCH * inside.memory_total:
                yield f"{used / inside.memory_total:.0%} of it are in use inside", True
        return
    if one.swap > SWAP_SHARE * one.memory_limit:
        yield f"{readable(one.swap)} are swapped out", True
    if looks.enough and one.memory.usual > MUCH * one.memory_limit:
        yield f"it uses {one.memory.usual / one.memory_limit:.0%} or more for 5 % of the time, {looks.over}", False
    if looks.enough and one.memory_pressure.usual >= MEMORY_PRESSURE:
        yield f"its work waits for memory {one.memory_pressure.usual:.0f} % of the time", False


def _memory_wanted(one: Observed) -> int:
    used = max(MEMORY_OVER_USUAL * one.memory.high, MEMORY_OVER_PEAK * one.memory.peak)
    return _step(max(used, MEMORY_LEAST[one.kind]))


def _memory_idle(one: Observed, wanted: int) -> bool:
    return one.memory.high < LITTLE * one.memory_limit and one.memory_limit - wanted >= MEMORY_WORTH


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _step(size: float) -> int:
    return math.ceil(size / MEMORY_STEP) * MEMORY_STEP


def _when(one: Observed) -> str:
    return "a container takes it at once" if one.kind == "ct" else "a VM has it after its next start"


def _cores(looks: Looks) -> Iterator[Finding]:
    """An emulated VM's figures are those of the emulation, and a container without a limit has every processor."""
    one = looks.one
    if not looks.enough or one.emulated or not any(key in one.config for key in ("cores", "cpulimit", "sockets")):
        return
    usual, waits = one.cpu.usual, one.cpu_pressure.usual
    if usual > MUCH * one.cpus or (waits >= CPU_PRESSURE and usual > CPU_BUSY * one.cpus and one.kind == "ct"):
        wanted = math.ceil(one.cpus * CORES_HEADROOM)
        waiting = f", and its work waits for one {waits:.0f} % of the time" if waits >= CPU_PRESSURE else ""
        yield looks.finding(
            "cores-too-few",
            "risk",
            f"it uses {usual:.1f} of {one.cpus:g} processors or more for 5 % of the time{waiting}, {looks.over}",
            "it is slower than the host could let it be",
            commands=(f"bastide set {one.ref} {_cpu_option(one, wanted)}",),
            how=_when(one),
        )
        return
    wanted = max(1, math.ceil(CORES_HEADROOM * one.cpu.peak))
    if wanted <= LITTLE * one.cpus:
        freed = one.cpus - wanted
        yield looks.finding(
            "cores-too-many",
            "waste",
            f"of {one.cpus:g} processors it used {one.cpu.peak:.2g} at most, {looks.over}",
            f"{freed:g} processors fewer to share among; its idle threads cost the host little",
            saving=Saving(cores=freed),
            commands=(f"bastide set {one.ref} {_cpu_option(one, wanted)}",),
            how=_when(one),
        )


def _cpu_option(one: Observed, wanted: int) -> str:
    """The option that limits its processors now, with another value."""
    if float(one.config.get("cpulimit", 0)):
        return f"cpulimit={wanted}"
    sockets = int(one.config.get("sockets", 1))
    if "vcpus" in one.config and wanted <= sockets * int(one.config.get("cores", 1)):
        return f"vcpus={wanted}"
    rest = " --delete vcpus" if "vcpus" in one.config else ""
    return f"sockets=1 cores={wanted}{rest}" if sockets > 1 else f"cores={wanted}{rest}"


def _disk(looks: Looks) -> Iterator[Finding]:
    one = looks.one
    used, size = one.disk_now, one.disk_limit
    if one.inside is not None and one.inside.disk_used is not None and one.inside.disk_size:
        used, size = one.inside.disk_used, one.inside.disk_size
    if used is None or not size:
        return
    if used >= MUCH * size:
        growth = max(1, math.ceil((used / DISK_TARGET - size) / GIB))
        yield looks.now(
            "disk-nearly-full",
            "risk",
            f"{readable(used)} of its {readable(size)} disk are used ({used / size:.0%})",
            "what it runs stops when nothing can be written any more",
            commands=(f"bastide resize {one.ref} +{growth}G",),
            how="its file system grows with it" if one.kind == "ct" else "cloud-init grows the file system at a start",
        )
    elif looks.enough and one.disk.peak and _disk_idle(one.disk.peak, size):
        freed = int(size - one.disk.peak / LITTLE)
        yield looks.finding(
            "disk-too-big",
            "note",
            f"of its {readable(size)} disk {readable(one.disk.peak)} were used at most, {looks.over}",
            f"{readable(freed)} are promised to it that others cannot be promised; only what is written takes space",
            how="a disk does not shrink: choose a smaller one when the guest is made anew",
        )


def _disk_idle(peak: float, size: int) -> bool:
    return peak < DISK_LITTLE * size and size - peak / LITTLE >= DISK_WORTH
