"""A plan's differences as changes of a guest's options: at once where that is possible, else at its next start."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bastide.architect.differences import WATCHED
from bastide.base import propstring
from bastide.model.access import Identity
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest
from bastide.model.homelab import Difference
from bastide.model.record import Scalar
from bastide.model.vm import VmOptions
from bastide.operations.ct import configure as ct_configure
from bastide.operations.rooms import Rooms
from bastide.operations.vm import configure as vm_configure
from bastide.tasks.tasks import Task

_PLAIN = frozenset({"cores", "memory", "onboot", "tags"}) | WATCHED
_CARD = frozenset({"bridge", "tag"})
_ADDRESS = {"ip": "ip", "gateway": "gw"}


@dataclass(frozen=True, slots=True)
class Change:
    """Options to set and keys to delete, for either kind of guest."""

    options: ContainerOptions | VmOptions
    delete: list[str] = field(default_factory=list)


def change_of(guest: Guest, differences: Iterable[Difference]) -> Change:
    """What to set and to delete so that the guest is as wanted; its disk is not meant. Raises InvalidParameter."""
    values: dict[str, Any] = {}
    removed: list[str] = []
    config = guest.wanted_config
    for item in differences:
        if item.key in _PLAIN and item.wanted is None:
            removed.append(item.key)
        elif item.key in _PLAIN:
            values[item.key] = str(item.wanted)
        elif item.key in _CARD:
            values["net0"] = _with(str(values.get("net0", config.get("net0", ""))), item.key, item.wanted)
        elif item.key in _ADDRESS:
            key = "net0" if guest.kind == "lxc" else "ipconfig0"
            values[key] = _with(str(values.get(key, config.get(key, ""))), _ADDRESS[item.key], item.wanted)
    record = ContainerOptions if guest.kind == "lxc" else VmOptions
    return Change(record.parse(values), removed)


async def apply_change(rooms: Rooms, by: Identity, guest: Guest, change: Change, task: Task) -> None:
    """Change the guest's options. Raises InvalidParameter, Locked, HostFailure; then nothing has changed."""
    if isinstance(change.options, ContainerOptions):
        await ct_configure.update_config(rooms, by, guest.vmid, change.options, delete=change.delete)
    else:
        await vm_configure.update_config(rooms, by, guest.vmid, change.options, delete=change.delete)
    guest = await rooms.guests.get(guest.vmid)
    waiting = sorted({*guest.pending, *guest.removed})
    if waiting:
        task.log(f"{', '.join(waiting)} of {guest.title} will change at its next start: bastide reboot {guest.name}")


def _with(text: str, key: str, value: Scalar | None) -> str:
    """A property string with another value of a key, or without the key."""
    parts = propstring.parse(text, "model")
    if key == "ip" and value in ("dhcp", "manual"):
        parts.pop("gw", None)  # a way out belongs to an address
    if value in (None, ""):
        parts.pop(key, None)
    else:
        parts[key] = str(value)
    return ",".join(f"{name}={value}" if name != "model" else value for name, value in parts.items())
