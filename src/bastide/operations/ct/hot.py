"""Changes that a running container takes at once."""

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from bastide.model.container import ContainerConfig, NetworkInterface
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations.ct.plan import container_plan, mount_plan
from bastide.operations.rooms import Rooms

_RECORD_ONLY = {"description", "tags", "onboot", "startup", "protection", "hookscript", "cmode", "lock", "template"}
_LIMITS = {"memory", "swap", "cores", "cpulimit", "cpuunits"}
_HOST_SIDE = {"bridge", "tag", "trunks", "rate", "link_down", "firewall"}
_NET = re.compile(r"net(\d+)", re.ASCII)
_MOUNT = re.compile(r"mp(\d+)", re.ASCII)


async def apply(
    rooms: Rooms, guest: Guest, values: Mapping[str, Scalar], removed: list[str], undo: AsyncExitStack
) -> set[str]:
    """Apply what can be applied to the running guest and return those keys; the others must wait.

    The inverse of each step goes onto `undo`.
    """
    touched = {*values, *removed}
    merged = {key: value for key, value in {**guest.config, **values}.items() if key not in removed}
    before, after = ContainerConfig.parse(guest.config), ContainerConfig.parse(merged)
    now = {key for key in touched if key in _RECORD_ONLY or key.startswith("unused")}
    if touched & _LIMITS:
        undo.push_async_callback(rooms.containers.set_limits, guest.vmid, before)
        await rooms.containers.set_limits(guest.vmid, after)
        now |= touched & _LIMITS
    changed = replace(guest, config=merged)
    for key in sorted(touched):
        if match := _NET.fullmatch(key):
            await _change_interface(rooms, guest, changed, int(match[1]), undo)
            now.add(key)
    for key in sorted(values):
        if (match := _MOUNT.fullmatch(key)) and key not in guest.config:
            mount = await mount_plan(rooms, guest, int(match[1]), after.mp[int(match[1])])
            await rooms.containers.add_mount(await container_plan(rooms, changed), mount)
            now.add(key)
    return now


async def _change_interface(rooms: Rooms, guest: Guest, changed: Guest, index: int, undo: AsyncExitStack) -> None:
    old = ContainerConfig.parse(guest.config).net.get(index)
    new = ContainerConfig.parse(changed.config).net.get(index)
    if old == new:
        return
    if old is not None and new is not None and _same_inside(old, new):
        undo.push_async_callback(rooms.network.connect, guest.vmid, index, old)
        await rooms.network.connect(guest.vmid, index, new)
        return
    undo.push_async_callback(_register, rooms, guest)
    await _register(rooms, changed)
    if old is not None:
        undo.push_async_callback(_add, rooms, guest, index, old)
        await _remove(rooms, guest.vmid, index, old)
    if new is not None:
        undo.push_async_callback(_remove, rooms, guest.vmid, index, new)
        await _add(rooms, changed, index, new)


def _same_inside(old: NetworkInterface, new: NetworkInterface) -> bool:
    """Whether the guest's end stays as it is, so that only the host's end changes."""
    inside = set(NetworkInterface.model_fields) - _HOST_SIDE
    return all(getattr(old, field) == getattr(new, field) for field in inside)


async def _register(rooms: Rooms, guest: Guest) -> None:
    """Addresses and guards come before the interface that they are for."""
    await rooms.network.register(guest.vmid, guest.name, dict(ContainerConfig.parse(guest.config).net))


async def _add(rooms: Rooms, guest: Guest, index: int, nic: NetworkInterface) -> None:
    await rooms.containers.add_interface(await container_plan(rooms, guest), index)
    await rooms.network.connect(guest.vmid, index, nic)


async def _remove(rooms: Rooms, vmid: int, index: int, nic: NetworkInterface) -> None:
    await rooms.containers.remove_interface(vmid, nic.name, rooms.network.host_interface(vmid, index))
