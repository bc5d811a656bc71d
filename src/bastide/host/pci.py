"""PCI devices of this machine, as sysfs shows them. Nothing is started or changed.

Sources: `Documentation/ABI/testing/sysfs-bus-pci`, `.../sysfs-bus-vfio-mdev`, `.../sysfs-kernel-iommu_groups`, the PCI
Code and ID Assignment Specification (class codes), the format of pci.ids (its own head).
"""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotFound

SYSFS = Path("/sys")
IDS = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))
_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})(?:\.(?P<function>[0-7]))?", re.ASCII
)
_BRIDGE = 0x0604
_MDEV_TYPE = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A function of a PCI device. `address` is `0000:01:00.0`; ids and `device_class` are the numbers of its header.

    `group` is its IOMMU group, None without an IOMMU. `driver` is the kernel's driver that has it.
    """

    address: str
    device_class: int
    vendor: int
    device: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    group: int | None = None
    driver: str | None = None
    mdev: bool = False

    @property
    def bridge(self) -> bool:
        """Whether it only leads to other devices, and so never needs to be given away with them."""
        return self.device_class >> 8 == _BRIDGE


@dataclass(frozen=True, slots=True)
class MdevType:
    """A kind of mediated device that a device offers, and how many more of it can be made."""

    type: str
    available: int
    description: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Names of vendors, devices and subsystems by their numbers."""

    vendors: Mapping[int, str] = field(default_factory=dict)
    devices: Mapping[tuple[int, int], str] = field(default_factory=dict)
    subsystems: Mapping[tuple[int, int, int, int], str] = field(default_factory=dict)


def normalize(address: str) -> str:
    """The full address of a function, `01:00.0` -> `0000:01:00.0`. Raises InvalidParameter."""
    match = _ADDRESS.fullmatch(address.lower())
    if match is None or match["function"] is None:
        raise InvalidParameter({"host": f"'{address[:40]}' is not the address of a PCI function (01:00.0)"})
    return f"{match['domain'] or '0000'}:{match['bus']}:{match['slot']}.{match['function']}"


def expand(host: str, sysfs: Path = SYSFS) -> list[str]:
    """The functions that `host` of a hostpci option means: `01:00;0000:02:00.1`, where `01:00` is all of 01:00.

    Sorted as given, each once. Raises InvalidParameter for no address, NotFound for a device that is not there.
    """
    found: list[str] = []
    for part in host.split(";"):
        match = _ADDRESS.fullmatch(part.lower())
        if match is None:
            raise InvalidParameter({"host": f"'{part[:40]}' is not the address of a PCI device (01:00 or 01:00.0)"})
        stem = f"{match['domain'] or '0000'}:{match['bus']}:{match['slot']}"
        wanted = [match["function"]] if match["function"] is not None else "01234567"
        present = [f"{stem}.{number}" for number in wanted if (_devices(sysfs) / f"{stem}.{number}").exists()]
        if not present:
            raise NotFound(f"no such PCI device on this host: {part}")
        found += [address for address in present if address not in found]
    return found


def devices(sysfs: Path = SYSFS) -> list[PciDevice]:
    """All PCI functions of the machine by address."""
    found: list[PciDevice] = []
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(_devices(sysfs).iterdir()):
            # A device can be unplugged while it is looked at.
            with contextlib.suppress(OSError, ValueError):
                found.append(_read(folder))
    return found


def device(address: str, sysfs: Path = SYSFS) -> PciDevice:
    """One function. Raises NotFound."""
    try:
        return _read(_devices(sysfs) / normalize(address))
    except (OSError, ValueError) as error:
        raise NotFound(f"no such PCI device on this host: {address}") from error


def group_members(group: int, sysfs: Path = SYSFS) -> list[PciDevice]:
    """The functions of an IOMMU group, which the IOMMU cannot tell apart."""
    return [known for known in devices(sysfs) if known.group == group]


def mdev_types(address: str, sysfs: Path = SYSFS) -> list[MdevType]:
    """The kinds of mediated devices that a function offers; none for most. Raises NotFound without the function."""
    folder = _devices(sysfs) / device(address, sysfs).address / "mdev_supported_types"
    found: list[MdevType] = []
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(folder.iterdir()):
            available = _text(entry / "available_instances") or "0"
            found.append(
                MdevType(
                    type=entry.name,
                    available=int(available) if available.isdecimal() else 0,
                    description=_text(entry / "description") or "",
                    name=_text(entry / "name"),
                )
            )
    return found


def is_mdev_type(text: str) -> bool:
    """Whether a text can be the name of a kind of mediated devices, and nothing else in a path."""
    return _MDEV_TYPE.fullmatch(text) is not None and text not in (".", "..")


def describe(known: PciDevice, names: Names | None = None) -> str:
    """A function in a sentence: `0000:01:00.0 (Intel Corporation 82574L, driver e1000e)`."""
    names = names_of_ids() if names is None else names
    vendor = names.vendors.get(known.vendor, f"{known.vendor:04x}")
    model = names.devices.get((known.vendor, known.device), f"{known.device:04x}")
    return f"{known.address} ({vendor} {model}{f', driver {known.driver}' if known.driver else ''})"


def _devices(sysfs: Path) -> Path:
    return sysfs / "bus/pci/devices"


def _read(folder: Path) -> PciDevice:
    group = _link(folder / "iommu_group")
    return PciDevice(
        address=folder.name,
        device_class=_hex(folder / "class"),
        vendor=_hex(folder / "vendor"),
        device=_hex(folder / "device"),
        subsystem_vendor=_hex(folder / "subsystem_vendor", 0),
        subsystem_device=_hex(folder / "subsystem_device", 0),
        group=int(group) if group is not None else None,
        driver=_link(folder / "driver"),
        mdev=(folder / "mdev_supported_types").is_dir(),
    )


def _hex(path: Path, absent: int | None = None) -> int:
    text = _text(path)
    if text is None:
        if absent is None:
            raise ValueError(f"{path} is not there")
        return absent
    return int(text, 16)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _link(path: Path) -> str | None:
    try:
        return path.readlink().name
    except OSError:
        return None


def names_of_ids() -> Names:
    """The names in this machine's pci.ids; none where the package pci.ids is not installed. Read once for each file."""
    for path in IDS:
        with contextlib.suppress(OSError):
            return _read_names(path, path.stat().st_mtime_ns, _present())
    return Names()


def _present() -> frozenset[tuple[int, int]]:
    return frozenset((known.vendor, known.device) for known in devices())


@lru_cache(maxsize=2)
def _read_names(path: Path, _changed: int, wanted: frozenset[tuple[int, int]]) -> Names:
    with path.open(encoding="utf-8", errors="replace") as file:
        return parse_ids(file, wanted)


def parse_ids(lines: Iterable[str], wanted: Collection[tuple[int, int]] | None = None) -> Names:
    """Read pci.ids: all vendors and, of the `wanted` (vendor, device) pairs or else all, devices and subsystems."""
    vendors: dict[int, str] = {}
    devices_: dict[tuple[int, int], str] = {}
    subsystems: dict[tuple[int, int, int, int], str] = {}
    vendor = model = None
    for depth, numbers, name in _entries(lines):
        if depth == 0:
            vendor, model = numbers[0], None
            vendors[vendor] = name
        elif depth == 1 and vendor is not None:
            model = numbers[0] if wanted is None or (vendor, numbers[0]) in wanted else None
            if model is not None:
                devices_[vendor, model] = name
        elif depth == 2 and vendor is not None and model is not None and len(numbers) == 2:
            subsystems[vendor, model, numbers[0], numbers[1]] = name
    return Names(vendors, devices_, subsystems)


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, list[int], str]]:
    """Depth (number of tabs), numbers and name of each line, up to the lists of classes that follow the vendors."""
    for line in lines:
        text = line.rstrip("\n").lstrip("\t")
        if not text.strip() or text.startswith("#"):
            continue
        if text.startswith("C "):
            return
        ids, _, name = text.partition("  ")
        with contextlib.suppress(ValueError):
            numbers = [int(part, 16) for part in ids.split()]
            if numbers:
                yield len(line) - len(line.lstrip("\t")), numbers, name.strip()
