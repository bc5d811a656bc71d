"""A comparison's figures from single measurements, and what isolates a guest, as words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bastide.base.units import GIB
from bastide.model.comparison import Figure, Measure, Side
from bastide.model.service import Choice

UNITS: dict[Measure, str] = {
    "deploy": "s", "start": "s", "stop": "s", "memory": "B", "disk": "B", "cpu_single": "1/s", "cpu_all": "1/s",
    "memory_bandwidth": "B/s", "disk_read_4k": "1/s", "disk_write_4k": "1/s", "disk_read": "B/s", "disk_write": "B/s",
    "net_out": "B/s", "net_in": "B/s", "net_latency": "s", "density": "guests/GB",
}  # fmt: skip

_SECCOMP = {0: "none", 1: "strict", 2: "filter"}


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the kernel says of a process: of a container's first one, or of a VM's QEMU.

    `uid` is the host's number of its user, `uid_map` the rows (inside, outside, count) of its user namespace,
    `seccomp` the mode of seccomp(2), `filters` how many filters there are, `refused` how many of `calls` system calls
    they refuse (None: unknown), `capabilities` the effective set as a mask, `label` what the security module calls it
    and how it acts (`name (enforce)`), None without one.
    """

    uid: int
    uid_map: tuple[tuple[int, int, int], ...]
    seccomp: int
    filters: int
    capabilities: int
    label: str | None
    refused: int | None = None
    calls: int | None = None

    @property
    def mapped(self) -> bool:
        """Whether it lives in a user namespace of its own: root inside is nobody outside."""
        return self.uid_map != ((0, 0, 4294967295),)


@dataclass(slots=True)
class Measured:
    """The values of one kind as they come in; `missing` says of what could not be measured, why."""

    values: dict[Measure, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, measure: Measure, value: float) -> None:
        """Keep the value of one run."""
        self.values.setdefault(measure, []).append(value)

    def lack(self, measure: str, why: str) -> None:
        """Note why a measure has no value; the first reason stays."""
        self.missing.setdefault(measure, why)

    def figures(self) -> dict[Measure, Figure]:
        """The figures, density among them: how many times the idle memory fits into 1 GB (2**30 bytes)."""
        values = dict(self.values)
        if values.get("memory"):
            values["density"] = [GIB / value for value in values["memory"] if value > 0]
        return {measure: Figure.of(unit, values[measure]) for measure, unit in UNITS.items() if values.get(measure)}


def side(
    kind: Choice, measured: Measured, isolation: Mapping[str, str], hardware: Mapping[str, str], *, emulated: bool
) -> Side:
    """One kind's part of a comparison. A reason why a measure is missing goes once another run had a value for it."""
    figures = measured.figures()
    return Side(
        kind=kind,
        emulated=emulated,
        figures=figures,
        isolation=dict(isolation),
        hardware=dict(hardware),
        missing={key: why for key, why in measured.missing.items() if key not in figures},
    )


def container_isolation(found: Confinement, kernel: str) -> dict[str, str]:
    """What stands between a container and its host, as words. `kernel` is the host's release."""
    return {
        "kernel": f"the host's ({kernel})",
        "user": _mapping(found) if found.mapped else "root in it is the host's root (privileged)",
        "seccomp": _seccomp(found),
        "security module": found.label or "none",
        "capabilities": f"{_count(found.capabilities)} of root's"
        + (", valid in its own user namespace alone" if found.mapped else ", valid on the host"),
    }


def vm_isolation(found: Confinement, guest_kernel: str, accelerator: str) -> dict[str, str]:
    """What stands between a VM and its host, as words: the machine, and then the walls around QEMU."""
    machine = "the processor's virtualization (KVM)" if accelerator == "kvm" else "emulation in software (TCG)"
    return {
        "kernel": f"its own ({guest_kernel})",
        "machine": machine,
        "user": f"QEMU runs as the host's user {found.uid}" if found.uid else "QEMU runs as root",
        "seccomp": f"of QEMU: {_seccomp(found)}",
        "security module": f"of QEMU: {found.label or 'none'}",
        "capabilities": f"of QEMU: {_count(found.capabilities)}",
    }


def container_hardware(nodes: Sequence[str], *, buses: bool) -> dict[str, str]:
    """What hardware a container reaches: `nodes` are the device nodes beyond those that every container has."""
    return {
        "device nodes": ", ".join(nodes) if nodes else "none beyond the common ones (null, random, tty ...)",
        "PCI devices": "not whole: the host's driver serves a device's node, several guests at a time (dev0)",
        "USB devices": "as device nodes (dev0)" if buses else "the host has no USB",
        "drivers": "the host's",
    }


def vm_hardware(disks: Sequence[str], *, iommu: bool, buses: bool) -> dict[str, str]:
    """What hardware a VM reaches: `disks` are the block devices and cards that it sees."""
    return {
        "devices": ", ".join(disks) if disks else "unknown",
        "PCI devices": "whole, by VFIO (hostpci0)" if iommu else "none: the host has no IOMMU, or it is switched off",
        "USB devices": "whole (usb0)" if buses else "the host has no USB",
        "drivers": "its own",
    }


def parse_status(text: str) -> dict[str, str]:
    """The `Name: value` lines of /proc/PID/status (proc(5))."""
    rows = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in rows if colon}


def parse_uid_map(text: str) -> tuple[tuple[int, int, int], ...]:
    """The rows of /proc/PID/uid_map (user_namespaces(7)). Raises ValueError."""
    rows = [tuple(int(word) for word in line.split()) for line in text.splitlines()]
    if any(len(row) != 3 for row in rows):
        raise ValueError("not a uid_map")
    return tuple((row[0], row[1], row[2]) for row in rows)


def confinement(status: str, uid_map: str, label: str | None, **more: Any) -> Confinement:
    """What the files of /proc/PID say. Raises ValueError, LookupError for text that is none."""
    rows = parse_status(status)
    return Confinement(
        uid=int(rows["Uid"].split()[1]),
        uid_map=parse_uid_map(uid_map),
        seccomp=int(rows.get("Seccomp", "0")),
        filters=int(rows.get("Seccomp_filters", "0")),
        capabilities=int(rows["CapEff"], 16),
        label=None if label in (None, "", "unconfined") else label,
        **more,
    )


def _mapping(found: Confinement) -> str:
    rows = [f"{inside}-{inside + count - 1} are the host's {outside}-{outside + count - 1}"
            for inside, outside, count in found.uid_map]  # fmt: skip
    return "its ids " + ", ".join(rows) if rows else "none of its ids is one of the host's"


def _seccomp(found: Confinement) -> str:
    mode = _SECCOMP.get(found.seccomp, "unknown")
    if found.seccomp != 2:
        return mode
    if found.refused is None:
        return f"{mode}, {found.filters} in a row" if found.filters > 1 else mode
    return f"{mode}, {found.refused} of {found.calls} system calls refused"


def _count(mask: int) -> str:
    return "none" if not mask else str(mask.bit_count())
