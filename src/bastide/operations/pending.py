"""Changes that wait for the next start of a guest, and volumes that changes take out of use."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from bastide.base import propstring
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

_VOLUME_KEY = re.compile(r"rootfs|(mp|unused)\d+", re.ASCII)


async def apply_pending(rooms: Rooms, guest: Guest, task: Task | None) -> Guest:
    """Make the waiting changes of a stopped guest its configuration; returns the stored record.

    Volumes that the changes take out of use become `unused[n]`.
    """
    guest = await rooms.guests.get(guest.vmid)
    if not guest.pending and not guest.removed:
        return guest
    if task is not None:
        task.log("applying pending changes: " + ", ".join(sorted({*guest.pending, *guest.removed})))
    config = keep_unused(volumes_in(guest.config), guest.wanted_config)
    return await rooms.guests.update(replace(guest, config=config, pending={}, removed=()))


def keep_unused(volumes: Iterable[str], config: Mapping[str, Scalar], waiting: Iterable[str] = ()) -> dict[str, Scalar]:
    """`config`, holding each of a guest's `volumes`: as `unused[n]` if nothing else names it.

    An `unused[n]` whose volume is mounted again goes. `waiting` are volumes that pending changes name.
    """
    mounted = {volume for key, volume in _volumes(config).items() if not key.startswith("unused")}
    kept = {key: value for key, value in config.items() if not (key.startswith("unused") and str(value) in mounted)}
    for volume in dict.fromkeys(volumes):
        if volume in waiting or volume in _volumes(kept).values():
            continue
        index = next(n for n in range(256) if f"unused{n}" not in kept)
        kept[f"unused{index}"] = volume
    return kept


def volumes_in(config: Mapping[str, Scalar]) -> list[str]:
    """The volume ids that a configuration names, bind mounts left out."""
    return list(_volumes(config).values())


def _volumes(config: Mapping[str, Scalar]) -> dict[str, str]:
    """{key: volume id} of every mount that is not a bind mount."""
    found = {}
    for key, value in config.items():
        if _VOLUME_KEY.fullmatch(key):
            volume = propstring.parse(str(value), "volume").get("volume", "")
            if volume and not volume.startswith("/"):
                found[key] = volume
    return found
