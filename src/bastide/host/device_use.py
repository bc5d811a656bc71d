"""What of this machine's work hangs on a PCI device: network interfaces that carry addresses, disks that are in use.

Sources: sysfs(5), `Documentation/ABI/testing/sysfs-class-net`, proc_pid_mountinfo(5), proc_swaps(5).
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bastide.host import links

PROC = Path("/proc")
SYSFS = Path("/sys")


@dataclass(frozen=True, slots=True)
class Busy:
    """What is in use now: addresses of each interface, `major:minor` of mounted devices, names of swap devices."""

    addresses: Mapping[str, Collection[str]]
    mounted: Mapping[str, str]
    swaps: Collection[str]


async def uses(address: str, sysfs: Path = SYSFS, busy: Busy | None = None) -> list[str]:
    """What the host does with a PCI function, each as words for a sentence; empty when nothing."""
    busy = await busy_now() if busy is None else busy
    home = (sysfs / "bus/pci/devices" / address).resolve()
    return [*_networks(home, sysfs, busy), *_disks(home, sysfs, busy)]


async def busy_now(proc: Path = PROC) -> Busy:
    """What this machine uses."""
    addresses: dict[str, list[str]] = {}
    for row in await links.with_netlink(lambda link: link.addresses()):
        # Every interface that is up has a link-local one by itself.
        if not row.address.is_link_local:
            addresses.setdefault(row.interface, []).append(str(row.address.ip))
    mounted: dict[str, str] = {}
    for line in (proc / "self/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split(" ")
        mounted.setdefault(fields[2], fields[4])
    swaps = []
    with contextlib.suppress(OSError):
        lines = (proc / "swaps").read_text(errors="replace").splitlines()[1:]
        swaps = [os.path.basename(line.split()[0]) for line in lines if line.strip()]
    return Busy(addresses, mounted, swaps)


def _below(home: Path, sysfs: Path, kind: str) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted((sysfs / "class" / kind).iterdir()):
            if entry.resolve().is_relative_to(home):
                yield entry


def _networks(home: Path, sysfs: Path, busy: Busy) -> Iterator[str]:
    for entry in _below(home, sysfs, "net"):
        found = list(busy.addresses.get(entry.name, ()))
        if found:
            yield f"its interface {entry.name} has the address {found[0]}"
        elif (entry / "master").is_symlink():
            yield f"its interface {entry.name} is a port of {(entry / 'master').readlink().name}"


def _disks(home: Path, sysfs: Path, busy: Busy) -> Iterator[str]:
    for entry in _below(home, sysfs, "block"):
        for part in (entry, *sorted(path.parent for path in entry.resolve().glob("*/partition"))):
            with contextlib.suppress(OSError):
                number = (part / "dev").read_text().strip()
                held = os.listdir(part / "holders")
                if number in busy.mounted:
                    yield f"its disk {part.name} is mounted at {busy.mounted[number]}"
                elif part.name in busy.swaps:
                    yield f"its disk {part.name} is swapped to"
                elif held:
                    yield f"its disk {part.name} is part of {held[0]}"
