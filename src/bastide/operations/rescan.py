"""Guests' records against what lies on the storages: volumes that no record names, and sizes that are not so.

What Proxmox VE's `qm rescan` and `pct rescan` do.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, cast

from bastide.base import propstring, units
from bastide.base.errors import BastideError
from bastide.base.ids import VolumeId
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.model.storage import Content, Volume
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.vm.volumes import CLOUDINIT
from bastide.operations.volumes import owned_volumes, volumes_of
from bastide.storage.protocol import Storage


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not as it should be: `key` of the guest's record names `volume`, which no record named, or whose size
    was `before` and is `after` (bytes; None where the record said none). `problem`: what could not be looked at.
    """

    what: Literal["unused", "size", "problem"]
    vmid: int | None = None
    key: str | None = None
    volume: str | None = None
    before: int | None = None
    after: int | None = None
    problem: str | None = None


async def rescan(rooms: Rooms, owner: str, vmid: int | None = None, *, dry_run: bool = False) -> list[Finding]:
    """Look at the volumes of one guest or all, and correct the records, unless it is a dry run; what was found.

    A volume that is named for a guest which does not name it becomes its `unused[n]`, and sizes are what the storages
    say. Storages that do not answer and guests that somebody works on are left out, and told. `owner` is whose the
    guests' locks are meanwhile. Raises NotFound for an unknown guest.
    """
    guests = await rooms.guests.list() if vmid is None else [await rooms.guests.get(vmid)]
    volumes, found = await _lying(rooms, vmid)
    for guest in guests:
        try:
            async with _held(rooms, guest.vmid, owner, dry_run=dry_run):
                present = await rooms.guests.get(guest.vmid)
                if not present.config.get("lock"):
                    found += await _look(rooms, present, volumes, dry_run=dry_run)
        except BastideError as error:
            found.append(Finding("problem", guest.vmid, problem=str(error)))
    return found


@asynccontextmanager
async def _held(rooms: Rooms, vmid: int, owner: str, *, dry_run: bool) -> AsyncIterator[None]:
    """Who only looks does not keep others from their work."""
    if dry_run:
        yield
        return
    async with rooms.locks.hold(vmid, owner, "rescan", deadline=1):
        yield


async def _lying(rooms: Rooms, vmid: int | None) -> tuple[Mapping[str, Volume], list[Finding]]:
    """What lies on the storages for guests, by its id without its bases, and which storages could not be looked at."""
    volumes: dict[str, Volume] = {}
    problems = []
    for storage in await rooms.storages.all():
        if not rooms.storages.enabled(storage.config):
            continue
        try:
            volumes |= {_place(volume.volid): volume for volume in await _listed(storage, vmid)}
        except BastideError as error:
            problems.append(Finding("problem", problem=str(error)))
    return volumes, problems


async def _listed(storage: Storage, vmid: int | None) -> list[Volume]:
    wanted = sorted(storage.capabilities.contents & {"images", "rootdir"})
    return [volume for content in wanted for volume in await storage.list(cast(Content, content), vmid)]


def _place(volid: str) -> str:
    storage, _, name = volid.partition(":")
    return f"{storage}:{name.rpartition('/')[2]}"


async def _look(rooms: Rooms, guest: Guest, volumes: Mapping[str, Volume], *, dry_run: bool) -> list[Finding]:
    """One guest's record against the volumes; it is written if anything was found and it is no dry run."""
    named = {_place(str(volid)) for volid in volumes_of(guest)}
    mine = {place: volume for place, volume in volumes.items() if volume.vmid == guest.vmid}
    # The configuration drive is written anew at each start.
    strange = [one for place, one in mine.items() if place not in named and not CLOUDINIT.search(place)]
    lost = [one.volid for one in strange if await _there(rooms, one)]
    config, found = _sized(guest, volumes)
    kept = keep_unused(lost, config, guest.vmid)
    keys = {str(value): key for key, value in kept.items() if key.startswith("unused")}
    found += [Finding("unused", guest.vmid, keys[volid], volid) for volid in lost]
    if found and not dry_run:
        await rooms.guests.update(guest.with_config(kept))
    return found


async def _there(rooms: Rooms, volume: Volume) -> bool:
    """Whether it still is: it was listed before the guest was locked."""
    volid = VolumeId.parse(volume.volid)
    try:
        await (await rooms.storages.get(volid.storage)).info(volid.name)
    except BastideError:
        return False
    return True


def _sized(guest: Guest, volumes: Mapping[str, Volume]) -> tuple[dict[str, Scalar], list[Finding]]:
    """The configuration with the sizes that its volumes have."""
    config, found = dict(guest.config), []
    for key, volid in owned_volumes(guest.config, guest.vmid).items():
        volume = volumes.get(_place(volid))
        if volume is None or key.startswith("unused") or key == "vmstate" or CLOUDINIT.search(volid):
            continue
        first = "volume" if guest.kind == "lxc" else "file"
        parts = propstring.parse(str(guest.config[key]), first)
        said = units.parse_size(parts["size"]) if "size" in parts else None
        # A folder without a limit has no size, in either place.
        if volume.size == (said or 0):
            continue
        parts.pop("size", None)
        size = {"size": units.format_size(volume.size)} if volume.size else {}
        config[key] = propstring.render({**parts, **size}, first)
        found.append(Finding("size", guest.vmid, key, volid, said, volume.size))
    return config, found
