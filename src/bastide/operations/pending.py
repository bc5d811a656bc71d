"""Changes that wait for the next start of a guest, and volumes that changes take out of use."""

import re
from collections.abc import Mapping
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
    config = keep_unused(guest.config, guest.wanted_config)
    return await rooms.guests.update(replace(guest, config=config, pending={}, removed=()))


def keep_unused(before: Mapping[str, Scalar], after: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`after`, with every volume that only `before` uses as `unused[n]`, and without the `unused[n]` in use again."""
    volumes = _volumes(after)
    mounted = {volume for key, volume in volumes.items() if not key.startswith("unused")}
    config = {key: value for key, value in after.items() if not (key.startswith("unused") and volumes[key] in mounted)}
    for key, volume in _volumes(before).items():
        if volume in volumes.values() or key.startswith("unused"):
            continue
        index = next(n for n in range(256) if f"unused{n}" not in config)
        config[f"unused{index}"] = volume
    return config


def _volumes(config: Mapping[str, Scalar]) -> dict[str, str]:
    """{key: volume id} of every mount that is not a bind mount."""
    found = {}
    for key, value in config.items():
        if _VOLUME_KEY.fullmatch(key):
            volume = propstring.parse(str(value), "volume").get("volume", "")
            if volume and not volume.startswith("/"):
                found[key] = volume
    return found
