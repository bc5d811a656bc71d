"""ZFS pools on this machine's own disks: listed, described, made and destroyed.

Sources: zpool-list(8), zpool-status(8), zpool-create(8), zpoolconcepts(7), zfsprops(7).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.host.run import run

RaidLevel = Literal["single", "mirror", "raid10", "raidz", "raidz2", "raidz3", "draid", "draid2", "draid3"]
Compression = Literal["on", "off", "gzip", "lz4", "lzjb", "zle", "zstd"]

_DEADLINE = 600
_FEWEST = {
    "single": 1, "mirror": 2, "raid10": 4, "raidz": 3, "raidz2": 4, "raidz3": 5, "draid": 2, "draid2": 3, "draid3": 4,
}  # fmt: skip
_HEADING = re.compile(r" {0,6}(pool|state|status|action|see|scan|remove|checkpoint|config|errors):\s?(.*)")
_KEPT = ("pool", "state", "status", "action", "scan", "errors")


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: bytes, percent of fragmentation, ratio of deduplication."""

    name: str
    size: int
    allocated: int
    free: int
    fragmentation: int
    dedup: float
    health: str


@dataclass(frozen=True, slots=True)
class Vdev:
    """A pool, a group of devices, or a device: its state, its counts of errors where it has some, what else is told."""

    name: str
    state: str | None = None
    errors: tuple[int, int, int] | None = None
    message: str = ""
    children: tuple["Vdev", ...] = ()

    @property
    def leaves(self) -> tuple["Vdev", ...]:
        """The devices."""
        return (self,) if not self.children else tuple(leaf for child in self.children for leaf in child.leaves)


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """What `zpool status` says: `texts` by heading (`state`, `status`, `action`, `scan`, `errors`), and the devices."""

    name: str
    texts: dict[str, str]
    vdevs: tuple[Vdev, ...]


async def pools() -> list[Pool]:
    """The pools of this machine. Raises NotSupported without ZFS, HostFailure."""
    return parse_list((await run(list_argv(), deadline=60)).text)


async def status(name: str) -> PoolStatus:
    """One pool. Raises HostFailure when there is none of that name."""
    return parse_status((await run(["zpool", "status", "-pP", "--", name], deadline=60)).text)


async def make(name: str, vdevs: Sequence[str], *, ashift: int, compression: Compression) -> None:
    """Make a pool. Raises HostFailure."""
    await run(make_argv(name, vdevs, ashift, compression), deadline=_DEADLINE)


async def destroy(name: str) -> None:
    """Destroy a pool with all that is in it. Raises HostFailure when it is in use."""
    await run(["zpool", "destroy", "--", name], deadline=_DEADLINE)


async def clear_label(path: str) -> None:
    """Remove ZFS's label from a device of no pool. Raises HostFailure."""
    await run(["zpool", "labelclear", "-f", "--", path], deadline=60)


def list_argv() -> list[str]:
    """The command that lists pools."""
    return ["zpool", "list", "-Hp", "-o", "name,size,allocated,free,fragmentation,dedupratio,health"]


def make_argv(name: str, vdevs: Sequence[str], ashift: int, compression: Compression) -> list[str]:
    """The command that makes a pool; it refuses devices that hold something."""
    return ["zpool", "create", "-o", f"ashift={ashift}", "-O", f"compression={compression}", "--", name, *vdevs]


def vdevs(level: RaidLevel, devices: Sequence[str], data: int | None = None, spares: int | None = None) -> list[str]:
    """The devices as `zpool create` takes them. `data` and `spares` shape a dRAID.

    Raises InvalidParameter naming `devices` when they are too few or of a wrong number.
    """
    count, fewest = len(devices), _FEWEST[level]
    if level == "single" and count != 1:
        raise InvalidParameter({"devices": "a pool of one disk takes exactly one"})
    if count < fewest:
        raise InvalidParameter({"devices": f"{level} needs at least {fewest} disks"})
    if level == "single":
        return list(devices)
    if level == "raid10":
        if count % 2:
            raise InvalidParameter({"devices": "raid10 needs an even number of disks"})
        return [word for pair in range(0, count, 2) for word in ("mirror", *devices[pair : pair + 2])]
    if level.startswith("draid"):
        shape = "".join(f":{n}{unit}" for n, unit in ((data, "d"), (spares, "s")) if n is not None)
        return [f"{level}{shape}", *devices]
    return [level, *devices]


def parse_list(text: str) -> list[Pool]:
    """Read `zpool list -Hp`. Raises HostFailure when it is none."""
    found = []
    for line in text.splitlines():
        try:
            name, size, allocated, free, frag, dedup, health = line.split("\t")
            found.append(
                Pool(name, int(size), int(allocated), int(free), _number(frag), float(dedup.rstrip("x")), health)
            )
        except ValueError:
            raise HostFailure(f"zpool: its list cannot be read: {line[:200]!r}") from None
    return found


def _number(text: str) -> int:
    plain = text.rstrip("%")
    return int(plain) if plain.isascii() and plain.isdigit() else 0


def parse_status(text: str) -> PoolStatus:
    """Read `zpool status -pP` of one pool. Raises HostFailure when it is none."""
    texts: dict[str, str] = {}
    rows: list[tuple[int, Vdev]] = []
    heading = ""
    for line in text.splitlines():
        match = _HEADING.fullmatch(line)
        if match is not None:
            heading = match[1]
            texts[heading] = match[2].strip()
        elif heading == "config" and line.startswith("\t"):
            rows += [_row(line[1:])] if line.strip() and line.split()[:2] != ["NAME", "STATE"] else []
        elif heading and line.strip():
            texts[heading] = f"{texts[heading]}\n{line.strip()}".strip()
    if "pool" not in texts:
        raise HostFailure("zpool: its status cannot be read")
    kept = {key: value for key, value in texts.items() if key in _KEPT and key != "pool"}
    return PoolStatus(texts["pool"], kept, _tree(rows, -1))


def _row(line: str) -> tuple[int, Vdev]:
    """A line of the table of devices: how far it is indented, and the device."""
    words = line.split()
    counts = words[2:5]
    if len(counts) == 3 and all(word.isascii() and word.isdigit() for word in counts):
        errors, rest = (int(counts[0]), int(counts[1]), int(counts[2])), words[5:]
    else:
        errors, rest = None, words[2:]
    state = words[1] if len(words) > 1 else None
    return len(line) - len(line.lstrip(" ")), Vdev(words[0], state, errors, " ".join(rest))


def _tree(rows: list[tuple[int, Vdev]], above: int) -> tuple[Vdev, ...]:
    """Take what is indented more than `above` from the front of `rows`, with its children."""
    found = []
    while rows and rows[0][0] > above:
        depth, vdev = rows.pop(0)
        children = _tree(rows, depth)
        found.append(Vdev(vdev.name, vdev.state, vdev.errors, vdev.message, children))
    return tuple(found)
