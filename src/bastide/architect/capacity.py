"""What still fits on a host, and on several of which one may fail. Pure: facts in, numbers with their reason out."""

from collections.abc import Mapping, Sequence

from bastide.base.units import GIB, MIB
from bastide.model.advice import Cost
from bastide.model.capacity import Example, Fit, Resource, StorageRoom
from bastide.model.service import Choice

MEMORY_SPARED, DISK_SPARED, OVERCOMMIT = 0.10, 0.20, 4
"""The headroom as shares of what there is, and virtual processors for each of the host's."""

_WORDS = {"memory": "memory", "cores": "virtual processors", "disk": "disk space"}
_KINDS: Mapping[Choice, str] = {"ct": "containers", "vm": "VMs"}


def fit(
    kind: Choice,
    example: Example,
    *,
    cores: Resource,
    memory: Resource,
    storages: Sequence[StorageRoom],
    cost: Cost | None,
) -> Fit:
    """How many more guests of a kind fit, all of them on the storage with the most room for them.

    A VM takes the memory that it is given, and what it is known to cost idle where that is more: QEMU's own, or the
    emulator's.
    """
    usable = [storage for storage in storages if kind in storage.kinds]
    known = {"kind": kind, "cost": cost, "emulated": cost is not None and cost.emulated}
    if not usable:
        return Fit(count=0, limit="storage", each={}, why=f"no storage takes {_KINDS[kind]}", **known)
    best = max(usable, key=lambda storage: (storage.space.free, storage.storage))
    need = memory_of(kind, example, cost)
    each = {
        "memory": memory.free // need,
        "cores": cores.free // example.cores,
        "disk": best.space.free // example.disk,
    }
    limit = min(each, key=each.__getitem__)
    idle = None
    if cost is not None and cost.memory:
        idle = max(0, int((memory.total - memory.spared - memory.used) // cost.memory))
    why = _why(limit, each[limit], {"memory": memory, "cores": cores, "disk": best.space}[limit], best.storage)
    return Fit(count=each[limit], limit=limit, each=each, idle=idle, why=why, **known)


def memory_of(kind: Choice, example: Example, cost: Cost | None) -> int:
    """The bytes of memory that a guest of the example's size is promised."""
    if kind == "vm" and cost is not None and cost.memory:
        return max(example.memory, cost.memory)
    return example.memory


def across(hosts: Sequence[tuple[Resource, Resource, Resource]], example: Example, *, failover: bool) -> int:
    """How many more guests fit on several hosts, each (cores, memory, disk).

    With `failover` (N+1) the memory promised on all of them, new guests included, fits on those that are left when the
    one with the most is gone; by sums, for what exactly stands where is a placement.
    """
    fitting = sum(
        min(cores.free // example.cores, memory.free // example.memory, disk.free // example.disk)
        for cores, memory, disk in hosts
    )
    if not failover or not hosts:
        return fitting
    usable = [memory.total - memory.spared - memory.host for _, memory, _ in hosts]
    left = sum(usable) - max(usable) - sum(memory.promised for _, memory, _ in hosts)
    return max(0, min(fitting, left // example.memory))


def _why(limit: str, count: int, resource: Resource, storage: str) -> str:
    what = f"disk space on {storage}" if limit == "disk" else _WORDS[limit]
    promised = _amount(limit, resource.promised)
    parts = [f"{promised} of {_amount(limit, resource.total)} promised to guests"]
    if resource.spared:
        parts.append(f"{_amount(limit, resource.spared)} headroom")
    if resource.host:
        parts.append(f"{_amount(limit, resource.host)} for {'what else lies there' if limit == 'disk' else 'the host'}")
    ended = (
        ("are used up" if count == 0 else "end it") if limit == "cores" else "is used up" if count == 0 else "ends it"
    )
    return f"{what} {ended}: {', '.join(parts)}"


def _amount(limit: str, amount: float) -> str:
    if limit == "cores":
        return f"{amount:.0f}"
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / MIB:.0f} MiB"
