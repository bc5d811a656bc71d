"""Logical volumes: the command lines of LVM and what it reports.

Sources: lvm(8), lvs(8), lvcreate(8), lvmthin(7), lvm.conf(5), lvmreport(7).
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    RunError,
    WrongState,
)
from bastide.host.filesystems import translated
from bastide.host.run import Runner, finished, run

# What a guest writes to its disk is nobody's physical volume. `filter` and not `global_filter`: the administrator's
# own global one goes on to hold, a device has to pass both.
_CONFIG = (
    "devices { scan_lvs=0 "
    'filter=[ "r|^/dev/zd|", "r|^/dev/zvol/|", "r|^/dev/rbd|", "r|^/dev/nbd|" ] } '
    'report { time_format="%s" }'
)
_FIELDS = "lv_name,lv_size,lv_attr,origin,pool_lv,data_percent,metadata_percent,lv_time,lv_tags"
_RESERVED = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage"),
    *("_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"),
)
_DEADLINE = 600.0
_NO_SPACE = (
    *("insufficient free space", "insufficient suitable", "no free extents"),
    *("free space in thin pool", "free space in metadata", "out of metadata space"),
)
_SYS = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A line of `lvs`: sizes in bytes, shares in percent, `created` in seconds since the epoch.

    `attributes` are lv_attr's letters: the first is `V` for a thin volume, `t` for a thin pool, `-` for a plain one.
    """

    name: str
    size: int
    attributes: str
    origin: str | None = None
    pool: str | None = None
    data_percent: float | None = None
    metadata_percent: float | None = None
    created: int | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """Bytes of a volume group: in all, free, and of one extent."""

    size: int
    free: int
    extent: int


def parse_volumes(text: str) -> list[LogicalVolume]:
    """Read `lvs --reportformat json`. Raises HostFailure."""
    return [_volume(row) for row in _rows(text, "lv")]


def parse_groups(text: str) -> list[VolumeGroup]:
    """Read `vgs --reportformat json`. Raises HostFailure."""
    with _understood("vgs"):
        return [
            VolumeGroup(int(row["vg_size"]), int(row["vg_free"]), int(row["vg_extent_size"]))
            for row in _rows(text, "vg")
        ]


def check_name(name: str) -> str:
    """The name itself. Raises InvalidParameter naming `volume` when LVM keeps it for itself."""
    if len(name) > 120 or any(word in name for word in _RESERVED):
        raise InvalidParameter({"volume": f"'{name[:150]}' can't name a logical volume"})
    return name


class Lvm:
    """The logical volumes of one volume group. Names are checked by the caller."""

    def __init__(self, group: str, run: Runner = run, devices: Path = Path("/dev")) -> None:
        self.group = group
        self._run = run
        self._devices = devices

    async def volume_group(self) -> VolumeGroup:
        """Its space. Raises NotFound."""
        options = ["--options", "vg_size,vg_free,vg_extent_size"]
        found = parse_groups(await self._report("vgs", *options))
        if not found:
            raise NotFound(f"volume group '{self.group}' does not exist")
        return found[0]

    async def volumes(self) -> Sequence[LogicalVolume]:
        """Its logical volumes. Raises NotFound."""
        return parse_volumes(await self._report("lvs", "--options", _FIELDS))

    async def create(self, name: str, size: int, tags: Iterable[str] = (), pool: str | None = None) -> None:
        """Make a volume of at least `size` bytes, in a thin pool if one is named. Raises AlreadyExists, NoSpace."""
        # It is activated when it is used, and not by the host's boot, which would look into what guests wrote. LVM
        # 2.03.16 has the one option for volumes that are not thin alone, the other for those that are.
        kind = ["--size", f"{size}b", "--wipesignatures", "y", "--setautoactivation", "n"]
        if pool is not None:
            kind = ["--type", "thin", "--thinpool", pool, "--virtualsize", f"{size}b", "--setactivationskip", "y"]
        await self._change("lvcreate", *kind, "--yes", *_tags(tags), "--name", check_name(name), self.group)

    async def snapshot(self, origin: str, name: str, tags: Iterable[str] = (), *, read_only: bool = False) -> None:
        """Make a thin snapshot of a thin volume. Raises AlreadyExists, NoSpace, NotFound."""
        access = ["--snapshot", "--permission", "r" if read_only else "rw", "--setactivationskip", "y", "--yes"]
        await self._change("lvcreate", *access, *_tags(tags), "--name", check_name(name), self._place(origin))

    async def remove(self, names: Sequence[str]) -> None:
        """Remove volumes; none of them may be open."""
        await self._change("lvremove", "--yes", *(self._place(name) for name in names))

    async def rename(self, old: str, new: str) -> None:
        """Give a volume another name. Raises AlreadyExists, NotFound."""
        await self._change("lvrename", self.group, old, check_name(new))

    async def grow(self, name: str, size: int) -> None:
        """Grow a volume to at least `size` bytes; it must be smaller. Raises NoSpace."""
        await self._change("lvextend", "--size", f"{size}b", self._place(name))

    async def shrink(self, name: str, size: int) -> None:
        """Cut a volume to `size` bytes, whatever is on it."""
        await self._change("lvreduce", "--force", "--size", f"{size}b", self._place(name))

    async def activate(self, name: str) -> Path:
        """Give a volume its device, which is told. Raises NotFound, HostFailure."""
        await self._change("lvchange", "--activate", "y", "--ignoreactivationskip", self._place(name))
        return self._device(name)

    async def deactivate(self, name: str) -> None:
        """Take a volume's device away; nothing may have it open."""
        await self._change("lvchange", "--activate", "n", self._place(name))

    async def seal(self, name: str) -> None:
        """Let nothing write to a volume any more. One that is sealed is fine."""
        done = await self._try("lvchange", "--permission", "r", self._place(name))
        if done is not None and "already" not in done.stderr.lower():
            raise done

    def _place(self, name: str) -> str:
        return f"{self.group}/{name}"

    def _device(self, name: str) -> Path:
        """The node behind /dev/GROUP/NAME, if it is that volume's and no other."""
        link = self._devices / self.group / name
        with translated(f"open the device of '{self.group}/{name}'"):
            path = Path(os.path.realpath(link, strict=True))
            found = path.lstat()
        if self._devices == Path("/dev"):
            expected = "-".join(part.replace("-", "--") for part in (self.group, name))
            if not stat.S_ISBLK(found.st_mode) or _mapper_name(found.st_rdev) != expected:
                raise HostFailure(f"{link} is not the device of the logical volume")
        return path

    async def _report(self, tool: str, *options: str) -> str:
        argv = [tool, "--config", _CONFIG, "--reportformat", "json", "--units", "b", "--nosuffix", *options, self.group]
        try:
            return (await self._run(argv)).text
        except RunError as error:
            if "not found" in error.stderr:
                raise NotFound(f"volume group '{self.group}' does not exist") from error
            raise

    async def _change(self, tool: str, *options: str) -> None:
        if (error := await self._try(tool, *options)) is not None:
            raise self._explain(error)

    async def _try(self, tool: str, *options: str) -> RunError | None:
        try:
            # Killed in the wrong moment, LVM would leave a device suspended: its guest would hang.
            await finished(self._run([tool, "--config", _CONFIG, "--quiet", *options], deadline=_DEADLINE))
        except RunError as error:
            return error
        return None

    def _explain(self, error: RunError) -> BastideError:
        text = error.stderr.lower()
        if any(part in text for part in _NO_SPACE):
            return NoSpace(f"volume group '{self.group}' is full: {str(error).rpartition(': ')[2]}")
        if "already exists" in text:
            return AlreadyExists(f"the logical volume already exists in volume group '{self.group}'")
        if "not found" in text or "failed to find" in text:
            return NotFound(f"no such volume in volume group '{self.group}': {str(error).rpartition(': ')[2]}")
        if " in use" in text or " is used by " in text:
            return WrongState(str(error).rpartition(": ")[2])
        return error


def _tags(tags: Iterable[str]) -> list[str]:
    return [word for tag in sorted(tags) for word in ("--addtag", tag)]


def _mapper_name(device: int) -> str:
    try:
        return (_SYS / f"{os.major(device)}:{os.minor(device)}" / "dm/name").read_text().strip()
    except OSError:
        return ""


def _volume(row: Mapping[str, Any]) -> LogicalVolume:
    with _understood("lvs"):
        return LogicalVolume(
            name=row["lv_name"],
            size=int(row["lv_size"]),
            attributes=row["lv_attr"],
            origin=row["origin"] or None,
            pool=row["pool_lv"] or None,
            data_percent=float(row["data_percent"]) if row["data_percent"] else None,
            metadata_percent=float(row["metadata_percent"]) if row["metadata_percent"] else None,
            created=int(row["lv_time"]) if row["lv_time"] else None,
            tags=frozenset(row["lv_tags"].split(",")) - {""},
        )


def _rows(text: str, key: str) -> list[Mapping[str, Any]]:
    with _understood("LVM's report"):
        return [dict(row) for part in json.loads(text)["report"] for row in part[key]]


class _understood:  # noqa: N801 - a context manager, used as a function
    """Turns what goes wrong in reading a report into HostFailure."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ValueError, KeyError, TypeError, AttributeError, RecursionError)):
            raise HostFailure(f"{self._what} could not be understood: {error}") from error
