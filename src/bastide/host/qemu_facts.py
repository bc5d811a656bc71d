"""What the QEMU of this host can do, asked of it once for each version of the binary, and what the machine adds.

One short process without a guest (`-machine none`) answers everything over QMP on its standard input and output.
Sources: QEMU's QMP reference (query-machines, query-cpu-definitions, query-cpu-model-expansion, qom-list-types),
docs/interop/firmware.json, `Documentation/ABI/testing/sysfs-kernel-mm-hugepages`, `.../stable/sysfs-devices-node`.
"""

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported
from bastide.base.units import KIB
from bastide.host import abilities, facts, qemu_firmware
from bastide.host.qemu_firmware import Firmware
from bastide.host.run import kill_group, spawn

BINARY = Path("/usr/bin/qemu-system-x86_64")
SYSFS = Path("/sys")
_DEADLINE = 30
_ALIASES = {"pc": "i440fx", "q35": "q35"}
_MACHINE = re.compile(r"pc-(?P<type>q35|i440fx)-(?P<version>[0-9]+(?:\.[0-9]+)+)", re.ASCII)
_CPU_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)

MachineType = Literal["q35", "i440fx"]

_V2 = frozenset({"cx16", "lahf-lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"})
_V3 = _V2 | {"aes", "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
LEVELS: Mapping[str, frozenset[str]] = {
    "x86-64-v2": _V2,
    "x86-64-v2-AES": _V2 | {"aes"},
    "x86-64-v3": _V3,
    "x86-64-v4": _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
"""The CPU types that are no models of QEMU's: the flags that each has beyond x86-64 (x86-64 psABI, 3.1.1)."""


@dataclass(frozen=True, slots=True)
class MachineVersion:
    """A machine type of QEMU's with its version: `pc-q35-7.2`, `q35`, (7, 2)."""

    id: str
    type: MachineType
    version: tuple[int, ...]
    deprecated: bool = False

    @property
    def number(self) -> str:
        """The version as text, `7.2`."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class CpuModel:
    """A CPU model. `unavailable` names the features of it that this host's accelerator cannot give a guest."""

    name: str
    unavailable: tuple[str, ...] = ()
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class HugePages:
    """Huge pages of one size in bytes: how many the kernel keeps and how many of them are free."""

    size: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node of the host's: its number, its logical CPUs, its memory in bytes."""

    number: int
    cpus: frozenset[int]
    memory: int


@dataclass(frozen=True, slots=True)
class Emulator:
    """What one QEMU binary answers. `devices` are names for `-device`.

    `flags` are the CPU properties that it knows, `offered` those that it can give a guest on this host.
    `types` holds the other kinds of objects that a guest may need (`chardev-spicevmc`, `memory-backend-memfd`).
    """

    binary: Path
    version: tuple[int, int, int]
    machines: tuple[MachineVersion, ...]
    cpu_models: tuple[CpuModel, ...]
    flags: frozenset[str]
    devices: frozenset[str]
    offered: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()

    @property
    def spice(self) -> bool:
        """Whether a guest's screen can be a SPICE server: the code and its module are there."""
        return "query-spice" in self.commands and "chardev-spicevmc" in self.types

    def machine(self, name: str) -> MachineVersion | None:
        """The machine that a name means: a full one, or the newest of `pc` or `q35`."""
        if name in _ALIASES:
            return max((m for m in self.machines if m.type == _ALIASES[name]), key=lambda m: m.version, default=None)
        return next((m for m in self.machines if m.id == name), None)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host as a VM's command line depends on it.

    `kvm_refusal` is None where KVM is usable and else a sentence that says why not; guests are emulated then.
    `cpu_vendor` is the processors' (`GenuineIntel`), `cpus` the number of logical ones.
    """

    emulator: Emulator
    kvm_refusal: str | None
    firmware: tuple[Firmware, ...] = ()
    cpu_vendor: str = ""
    cpus: int = 1
    hugepages: tuple[HugePages, ...] = ()
    numa_nodes: tuple[NumaNode, ...] = ()
    vhost_net: bool = False
    cgroups: Literal["v2", "hybrid", "v1", "none"] = "none"

    @property
    def accelerator(self) -> Literal["kvm", "tcg"]:
        """How guests run here."""
        return "tcg" if self.kvm_refusal is not None else "kvm"


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Which file was asked how."""

    binary: Path
    changed: int
    size: int
    accelerator: str


@dataclass
class _Cache:
    emulators: dict[_Stamp, Emulator] = field(default_factory=dict)
    vendors: dict[_Stamp, dict[str, str]] = field(default_factory=dict)


_cache = _Cache()


async def host_facts(binary: Path = BINARY) -> HostFacts:
    """This host's facts. QEMU is asked (some 300 ms) when its binary is new; the rest is read anew.

    Raises NotSupported when QEMU is not installed, HostFailure when it does not answer.
    """
    kvm_refusal = abilities.kvm_refusal()
    emulator = await _emulator(binary, "kvm" if kvm_refusal is None else "tcg")
    return HostFacts(
        emulator=emulator,
        kvm_refusal=kvm_refusal,
        firmware=qemu_firmware.installed(),
        cpu_vendor=facts.processors().vendor,
        cpus=facts.cpu_count(),
        hugepages=hugepages(),
        numa_nodes=numa_nodes(),
        vhost_net=os.path.exists("/dev/vhost-net"),
        cgroups=abilities.cgroups().version,
    )


async def cpu_vendors(binary: Path = BINARY) -> dict[str, str]:
    """The vendor (`GenuineIntel`, `AuthenticAMD` ...) of each CPU model; empty for those that have none."""
    accelerator = "kvm" if abilities.kvm_refusal() is None else "tcg"
    stamp = _stamp(binary, accelerator)
    if stamp not in _cache.vendors:
        names = [model.name for model in (await _emulator(binary, accelerator)).cpu_models]
        answers = await _ask(binary, accelerator, [_expansion(name) for name in names])
        _cache.vendors[stamp] = {
            name: str(answer["model"]["props"].get("vendor", ""))
            for name, answer in zip(names, answers, strict=True)
            if answer is not None
        }
    return _cache.vendors[stamp]


async def _emulator(binary: Path, accelerator: str) -> Emulator:
    stamp = _stamp(binary, accelerator)
    if stamp not in _cache.emulators:
        answers = await _ask(
            binary,
            accelerator,
            [
                {"execute": "query-version"},
                {"execute": "query-machines"},
                {"execute": "query-cpu-definitions"},
                _expansion("max"),
                {"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": False}},
                {"execute": "qom-list-types", "arguments": {"abstract": False}},
                {"execute": "query-commands"},
            ],
        )
        _cache.emulators.clear()
        _cache.vendors.clear()
        _cache.emulators[stamp] = parse_emulator(binary, answers)
    return _cache.emulators[stamp]


def _stamp(binary: Path, accelerator: str) -> _Stamp:
    try:
        stat = binary.stat()
    except OSError as error:
        raise NotSupported(f"{binary.name} is not installed on this host; see `bastide doctor`") from error
    return _Stamp(binary, stat.st_mtime_ns, stat.st_size, accelerator)


def _expansion(name: str) -> dict[str, Any]:
    return {"execute": "query-cpu-model-expansion", "arguments": {"type": "full", "model": {"name": name}}}


async def _ask(binary: Path, accelerator: str, commands: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The answers in the commands' order; None for a command that failed."""
    wrapped = [{"execute": "qmp_capabilities"}, *commands]
    lines = "".join(json.dumps({**command, "id": number}) + "\n" for number, command in enumerate(wrapped))
    process = await spawn(
        [str(binary), "-nodefaults", "-no-user-config", "-machine", "none", "-accel", accelerator, "-display", "none",
         "-S", "-qmp", "stdio"],
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_DEADLINE):
            answers = await _converse(process, lines.encode(), len(wrapped))
            if len(answers) < len(wrapped):
                said = (await process.stderr.read()).decode(errors="replace") if process.stderr is not None else ""
                raise HostFailure(f"{binary.name} did not answer: {said.strip()[-300:] or 'no message'}")
    except TimeoutError:
        raise DeadlineExceeded(f"{binary.name} did not answer within {_DEADLINE} seconds") from None
    finally:
        # Not by `quit`: QEMU would end without what it has not been able to write yet.
        await asyncio.shield(kill_group(process))
    return [answers.get(number) for number in range(1, len(wrapped))]


async def _converse(process: Process, lines: bytes, count: int) -> dict[int, Any]:
    """Send commands and read until `count` are answered or the process ends."""
    if process.stdin is None or process.stdout is None:
        raise HostFailure("QEMU has no pipes")
    process.stdin.write(lines)
    answers: dict[int, Any] = {}
    unfinished = b""
    while len(answers) < count and (chunk := await process.stdout.read(1 << 20)):
        *whole, unfinished = (unfinished + chunk).split(b"\n")
        answers |= parse_answers(b"\n".join(whole).decode(errors="replace"))
    return answers


def parse_answers(text: str) -> dict[int, Any]:
    """Read a QMP conversation: what each command's id was answered, None for an error."""
    answers: dict[int, Any] = {}
    for line in filter(None, text.splitlines()):
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict) and isinstance(message.get("id"), int):
            answers[message["id"]] = message.get("return")
    return answers


def parse_emulator(binary: Path, answers: Sequence[Any]) -> Emulator:
    """Shape the seven answers of `host_facts`. Raises HostFailure when one of the needed ones is missing, or odd."""
    try:
        return _shaped(binary, answers)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise HostFailure(f"{binary.name} told what cannot be read: {error!r}") from None


def _shaped(binary: Path, answers: Sequence[Any]) -> Emulator:
    release, machines, models, expanded, devices, types, commands = answers
    if None in (release, machines, models, devices):
        raise HostFailure(f"{binary.name} did not say what it can do")
    number = release["qemu"]
    properties = expanded["model"]["props"] if expanded is not None else {}
    return Emulator(
        binary=binary,
        version=(number["major"], number["minor"], number["micro"]),
        machines=_machines(machines),
        cpu_models=tuple(
            sorted(
                (
                    CpuModel(row["name"], tuple(row.get("unavailable-features", ())), row.get("deprecated", False))
                    for row in models
                ),
                key=lambda model: model.name.lower(),
            )
        ),
        flags=frozenset(name for name, value in properties.items() if isinstance(value, bool)),
        devices=_names(devices),
        offered=frozenset(name for name, value in properties.items() if value is True),
        types=_names(types or []),
        commands=_names(commands or []),
    )


def _names(rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(str(row["name"]) for row in rows)


def _machines(rows: Iterable[Mapping[str, Any]]) -> tuple[MachineVersion, ...]:
    found: list[MachineVersion] = []
    for row in rows:
        match = _MACHINE.fullmatch(row["name"])
        if match is not None:
            numbers = tuple(int(part) for part in match["version"].split("."))
            kind: MachineType = "q35" if match["type"] == "q35" else "i440fx"
            found.append(MachineVersion(row["name"], kind, numbers, bool(row.get("deprecated", False))))
    return tuple(sorted(found, key=lambda machine: (machine.type, [-part for part in machine.version])))


def hugepages(sysfs: Path = SYSFS) -> tuple[HugePages, ...]:
    """The sizes of huge pages that the kernel has, smallest first."""
    found = []
    for folder in (sysfs / "kernel/mm/hugepages").glob("hugepages-*kB"):
        size = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) * KIB
        found.append(HugePages(size, _number(folder / "nr_hugepages"), _number(folder / "free_hugepages")))
    return tuple(sorted(found, key=lambda pages: pages.size))


def numa_nodes(sysfs: Path = SYSFS) -> tuple[NumaNode, ...]:
    """The host's NUMA nodes by number; none where the kernel does not tell."""
    found = []
    for folder in (sysfs / "devices/system/node").glob("node[0-9]*"):
        try:
            text = (folder / "meminfo").read_text()
            cpus = parse_cpu_list((folder / "cpulist").read_text())
        except OSError:
            continue
        total = re.search(r"MemTotal:\s+([0-9]+) kB", text)
        found.append(NumaNode(int(folder.name[4:]), cpus, int(total[1]) * KIB if total else 0))
    return tuple(sorted(found, key=lambda node: node.number))


def parse_cpu_list(text: str) -> frozenset[int]:
    """Read the kernel's list of CPUs, `0-3,8`. Whatever is none is left out."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        match = _CPU_RANGE.fullmatch(part)
        if match is not None:
            first = int(match[1])
            cpus.update(range(first, min(int(match[2] or first), first + 65535) + 1))
    return frozenset(cpus)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
