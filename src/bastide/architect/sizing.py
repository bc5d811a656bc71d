"""How large the guest is: asked, else what the catalog calls usual, else the system's own, never below the least."""

from dataclasses import dataclass

from bastide.architect import systems
from bastide.architect.needs import Needs
from bastide.base import units
from bastide.base.errors import InvalidParameter
from bastide.model.advice import HostFacts, Sizing
from bastide.model.catalog import CatalogEntry, Extent
from bastide.model.service import Choice, Service

KERNEL_MEMORY = 128 * units.MIB
"""What a Linux VM gets beyond the service: its kernel, page tables and a whole boot."""

HEADROOM = 0.9
"""The share of the host's memory that guests may have; the rest is the host's own."""

_KEYS = ("cores", "memory", "disk")


@dataclass(frozen=True, slots=True)
class _Figure:
    value: int
    because: str


def size(service: Service, entry: CatalogEntry | None, needs: Needs, kind: Choice, host: HostFacts) -> Sizing:
    """What the guest gets. Raises InvalidParameter for what is asked below the least, naming that."""
    found = {key: _figure(key, service, entry, needs, kind) for key in _KEYS}
    cores, least = found["cores"], _least("cores", entry, needs, kind)
    if service.cores is None and least.value <= host.cores < cores.value:
        found["cores"] = _Figure(host.cores, f"all that the host has; {cores.value} are {cores.because}")
    return Sizing(
        cores=found["cores"].value,
        memory=found["memory"].value,
        disk=found["disk"].value,
        instances=needs.instances,
        because={key: found[key].because for key in _KEYS},
    )


def too_large(sizing: Sizing, host: HostFacts) -> tuple[str, ...]:
    """Sentences for what this host does not have."""
    texts = []
    if sizing.cores > host.cores:
        texts.append(f"cores: {sizing.cores} are more than the {host.cores} of this host: more would only wait")
    total, room = sizing.memory * sizing.instances, int(host.memory * HEADROOM)
    if total > room:
        each = f"{sizing.instances} times {_shown('memory', sizing.memory)}" if sizing.instances > 1 else ""
        amount = each or _shown("memory", total)
        texts.append(
            f"memory: {amount} is more than this host has for guests ({_shown('memory', room >> 20 << 20)}, a tenth "
            "is left to the host): it may not start"
        )
    return tuple(texts)


def _figure(key: str, service: Service, entry: CatalogEntry | None, needs: Needs, kind: Choice) -> _Figure:
    least = _least(key, entry, needs, kind)
    asked = getattr(service, key)
    if asked is not None:
        value = _amount(asked)
        if value < least.value:
            raise InvalidParameter({
                key: f"{_shown(key, value)} is below the least, {_shown(key, least.value)} ({least.because})"
            })  # fmt: skip
        return _Figure(value, "asked")
    usual = _usual(key, entry, needs, kind)
    return usual if usual.value >= least.value else _Figure(least.value, f"the least: {least.because}")


def _least(key: str, entry: CatalogEntry | None, needs: Needs, kind: Choice) -> _Figure:
    system = needs.system
    if kind == "ct":
        least = _Figure(getattr(systems.CT_MINIMUM, key), f"a container of {system.title}")
    else:
        least = _Figure(getattr(system.minimum, key), f"{system.title}: {system.source}")
    own = _Figure(_extent(entry.size.minimum, key), f"{entry.title}: {entry.source}") if entry is not None else least
    return own if own.value > least.value else least


def _usual(key: str, entry: CatalogEntry | None, needs: Needs, kind: Choice) -> _Figure:
    if entry is None:
        value, because = getattr(needs.system.usual, key), f"usual for {needs.system.title}"
    else:
        value, because = _extent(entry.size.usual, key), f"usual for {entry.title}"
    if key == "memory" and kind == "vm" and needs.containable:
        return _Figure(value + KERNEL_MEMORY, f"{because}, and {_shown(key, KERNEL_MEMORY)} for the VM's own kernel")
    return _Figure(value, because)


def _extent(extent: Extent, key: str) -> int:
    return _amount(getattr(extent, key))


def _amount(value: int | str) -> int:
    return value if isinstance(value, int) else units.parse_size(value)


def _shown(key: str, value: int) -> str:
    return str(value) if key == "cores" else units.format_size(value)
