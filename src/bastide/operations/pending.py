"""Changes that wait for the next start of a guest, of either kind, and volumes that changes take out of use."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import owned_volumes
from bastide.tasks.tasks import Task

_HIDDEN = "**********"


async def apply_pending(rooms: Rooms, guest: Guest, task: Task | None) -> Guest:
    """Make the waiting changes of a stopped guest its configuration; returns the stored record.

    Volumes that the changes take out of use become `unused[n]`.
    """
    guest = await rooms.guests.get(guest.vmid)
    if not guest.pending and not guest.removed:
        return guest
    if task is not None:
        task.log("applying pending changes: " + ", ".join(sorted({*guest.pending, *guest.removed})))
    config = keep_unused(owned_volumes(guest.config, guest.vmid).values(), guest.wanted_config, guest.vmid)
    return await rooms.guests.update(replace(guest, config=config, pending={}, removed=()))


def keep_unused(
    volumes: Iterable[str], config: Mapping[str, Scalar], vmid: int, waiting: Iterable[str] = ()
) -> dict[str, Scalar]:
    """`config`, holding each of a guest's `volumes`: as `unused[n]` if nothing else names it.

    An `unused[n]` whose volume is in use again goes. `waiting` are volumes that pending changes name.
    """
    used = {volume for key, volume in owned_volumes(config, vmid).items() if not key.startswith("unused")}
    kept = {key: value for key, value in config.items() if not (key.startswith("unused") and str(value) in used)}
    for volume in dict.fromkeys(volumes):
        if volume in waiting or volume in owned_volumes(kept, vmid).values():
            continue
        index = next(n for n in range(256) if f"unused{n}" not in kept)
        kept[f"unused{index}"] = volume
    return kept


def pending_rows(guest: Guest) -> list[dict[str, Scalar]]:
    """Rows of {key, value, pending, delete}: what is set, what waits, and what will be deleted."""
    rows = []
    for key in sorted({*guest.config, *guest.pending, *guest.removed}):
        row: dict[str, Scalar] = {"key": key}
        for name, source in (("value", guest.config), ("pending", guest.pending)):
            if key in source:
                row[name] = _HIDDEN if key == "cipassword" else source[key]
        if key in guest.removed:
            row["delete"] = 1
        rows.append(row)
    return rows


def shown_value(key: str, value: Scalar) -> Scalar:
    """An option's value as callers may see it: no password, nor its hash."""
    return "**********" if key == "cipassword" else value


def reverted(guest: Guest, revert: Iterable[str]) -> Guest:
    """The record without the waiting changes of those keys."""
    keys = set(revert)
    return replace(
        guest,
        pending={key: value for key, value in guest.pending.items() if key not in keys},
        removed=tuple(key for key in guest.removed if key not in keys),
    )


def with_changes(guest: Guest, values: Mapping[str, Scalar], removed: Iterable[str], now: Container[str]) -> Guest:
    """The record with changes: those of the keys `now` in its configuration, the others waiting for the next start."""
    removed = list(removed)
    config = {key: value for key, value in guest.config.items() if key not in removed or key not in now}
    config.update({key: value for key, value in values.items() if key in now})
    touched = {*values, *removed}
    pending = {key: value for key, value in guest.pending.items() if key not in touched}
    pending.update({key: values[key] for key in values if key not in now and guest.config.get(key) != values[key]})
    gone = [key for key in guest.removed if key not in touched]
    gone += [key for key in removed if key not in now and key in guest.config]
    return replace(guest, config=config, pending=pending, removed=tuple(gone))
