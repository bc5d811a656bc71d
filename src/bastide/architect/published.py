"""Figures that were measured elsewhere, with their date: what a cost is told from until this host has measured.

One idle Debian 12 of each kind, on an ext4 folder. There are none of VMs under KVM: none were measured, and those of
emulated VMs say nothing of them.
"""

from bastide.base.units import GIB, MIB
from bastide.model.advice import Cost
from bastide.model.service import Choice

TAKEN = "2026-11-23"
_NOTE = "measured on another machine with 2 cores: an idle Debian 12 on an ext4 folder"

_CT_MEMORY = int(14.6 * MIB)
_CT = Cost(
    kind="ct",
    memory=_CT_MEMORY,
    deploy=9.744,
    start=0.945,
    density=round(GIB / _CT_MEMORY, 1),
    cpu=1.0,
    source="published",
    taken=TAKEN,
    note=f"{_NOTE}, LXC 5.0",
)
_EMULATED = Cost(
    kind="vm",
    memory=703 * MIB,
    start=39.7,
    source="published",
    taken=TAKEN,
    note=f"{_NOTE}, QEMU 7.2 without KVM, 512 MiB of memory; most of the memory is the emulator's cache",
    emulated=True,
)
_UNKNOWN = Cost(
    kind="vm",
    source="published",
    taken=TAKEN,
    note="no figures of VMs under KVM are known before this host has measured them: bastide compare",
)


def cost(kind: Choice, *, kvm: bool) -> Cost:
    """The published cost of one guest of a kind, on a host with or without KVM."""
    if kind == "ct":
        return _CT
    return _UNKNOWN if kvm else _EMULATED
