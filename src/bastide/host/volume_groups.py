"""LVM volume groups and thin pools on this machine's own disks: listed, made and removed.

Sources: lvm(8), pvs(8), lvs(8), lvmreport(7) for `--reportformat json`, lvmthin(7), pvcreate(8), vgcreate(8).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bastide.base.errors import HostFailure
from bastide.host.run import run

_DEADLINE = 600
_REPORT = ("--reportformat", "json", "--units", "b", "--nosuffix")
# A guest may keep an LVM of its own inside a volume: none of the host's commands looks for one there.
_CONFIG = (
    "--config",
    'devices { scan_lvs=0 filter=[ "r|^/dev/zd|", "r|^/dev/zvol/|", "r|^/dev/rbd|", "r|^/dev/nbd|" ] }',
)


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A device of a volume group, in bytes."""

    path: str
    size: int
    free: int


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A volume group, in bytes, with the number of its logical volumes."""

    name: str
    size: int
    free: int
    volumes: int
    members: tuple[PhysicalVolume, ...]


@dataclass(frozen=True, slots=True)
class ThinPool:
    """A thin pool, in bytes."""

    name: str
    group: str
    size: int
    used: int
    metadata_size: int
    metadata_used: int


async def groups() -> list[VolumeGroup]:
    """The volume groups of this machine. Raises NotSupported without LVM, HostFailure."""
    return parse_groups((await run(pvs_argv(), deadline=60)).stdout)


async def thin_pools() -> list[ThinPool]:
    """The thin pools of this machine. Raises NotSupported without LVM, HostFailure."""
    return parse_pools((await run(lvs_argv(), deadline=60)).stdout)


async def make_group(name: str, path: str) -> None:
    """Make a volume group on one device. Raises HostFailure; the device is left with its label then."""
    for argv in group_argvs(name, path):
        await run(argv, deadline=_DEADLINE)


async def make_pool(group: str, name: str) -> None:
    """Make a thin pool of all that is free in a group. Raises HostFailure."""
    await run(pool_argv(group, name), deadline=_DEADLINE)


async def remove_group(group: VolumeGroup) -> None:
    """Remove a group with all that is in it, and its label from its devices. Raises HostFailure when it is in use."""
    for argv in removal_argvs(group):
        await run(argv, deadline=_DEADLINE)


async def remove_pool(group: str, name: str) -> None:
    """Remove a thin pool with all that is in it. Raises HostFailure when it is in use."""
    await run(["lvremove", *_CONFIG, "--yes", "--", f"{group}/{name}"], deadline=_DEADLINE)


def pvs_argv() -> list[str]:
    """The command that lists groups, one row a device."""
    return ["pvs", *_CONFIG, *_REPORT, "--options", "vg_name,vg_size,vg_free,lv_count,pv_name,pv_size,pv_free"]


def lvs_argv() -> list[str]:
    """The command that lists thin pools."""
    columns = "lv_name,vg_name,lv_size,data_percent,lv_metadata_size,metadata_percent"
    return ["lvs", *_CONFIG, *_REPORT, "--select", "segtype=thin-pool", "--options", columns]


def group_argvs(name: str, path: str) -> list[list[str]]:
    """The commands that make a group."""
    return [["pvcreate", *_CONFIG, "--", path], ["vgcreate", *_CONFIG, "--", name, path]]


def pool_argv(group: str, name: str) -> list[str]:
    """The command that makes a thin pool; LVM takes its metadata and their spare from the same space."""
    # LVM wipes a pool's metadata by itself, and refuses --wipesignatures for it.
    return ["lvcreate", *_CONFIG, "--yes", "--type", "thin-pool", "--extents", "100%FREE", "--name", name, "--", group]


def removal_argvs(group: VolumeGroup) -> list[list[str]]:
    """The commands that remove a group; the first refuses while a volume is open."""
    return [
        ["vgchange", *_CONFIG, "--activate", "n", "--", group.name],
        ["vgremove", *_CONFIG, "--yes", "--", group.name],
        ["pvremove", *_CONFIG, "--", *(member.path for member in group.members)],
    ]


def parse_groups(text: bytes | str) -> list[VolumeGroup]:
    """Read pvs's report; devices of no group are left out. Raises HostFailure when it is none."""
    found: dict[str, VolumeGroup] = {}
    for row in _rows(text, "pv"):
        name = row.get("vg_name", "")
        if not name:
            continue
        member = PhysicalVolume(row.get("pv_name", ""), _bytes(row, "pv_size"), _bytes(row, "pv_free"))
        # A report without volumes has one row a device, one that counts them may have more.
        before = found[name].members if name in found else ()
        members = before if member in before else (*before, member)
        found[name] = VolumeGroup(
            name, _bytes(row, "vg_size"), _bytes(row, "vg_free"), _bytes(row, "lv_count"), members
        )
    return sorted(found.values(), key=lambda group: group.name)


def parse_pools(text: bytes | str) -> list[ThinPool]:
    """Read lvs's report of thin pools. Raises HostFailure when it is none."""
    return [
        ThinPool(
            name=row.get("lv_name", ""),
            group=row.get("vg_name", ""),
            size=_bytes(row, "lv_size"),
            used=_share(row, "lv_size", "data_percent"),
            metadata_size=_bytes(row, "lv_metadata_size"),
            metadata_used=_share(row, "lv_metadata_size", "metadata_percent"),
        )
        for row in _rows(text, "lv")
    ]


def _rows(text: bytes | str, kind: str) -> Sequence[Mapping[str, str]]:
    try:
        rows = json.loads(text)["report"][0][kind]
        return [{str(key): str(value) for key, value in row.items()} for row in rows]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise HostFailure(f"LVM: its report cannot be read: {error!r}") from None


def _bytes(row: Mapping[str, str], key: str) -> int:
    text = row.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _share(row: Mapping[str, str], size: str, percent: str) -> int:
    try:
        return round(_bytes(row, size) * float(row.get(percent) or 0) / 100)
    except (ValueError, OverflowError):
        return 0
