"""Changing a container's configuration: at once where that is possible, else at its next start."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from bastide.base.errors import Conflict, InvalidParameter
from bastide.base.ids import VolumeId
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.operations.ct import hot
from bastide.operations.ct.interfaces import with_hardware_addresses
from bastide.operations.interfaces import check_interfaces
from bastide.operations.pending import keep_unused, reverted, with_changes
from bastide.operations.rooms import Rooms
from bastide.operations.snapshots import check_unheld
from bastide.operations.volumes import (
    allocate_volume,
    delete_volumes,
    owned_volumes,
    plan_volumes,
    present_volumes,
    volumes_of,
)

_NOT_REMOVABLE = {"rootfs", "unprivileged", "arch", "ostype", "parent"}


async def update_config(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    changes: ContainerOptions,
    *,
    delete: Iterable[str] = (),
    revert: Iterable[str] = (),
    digest: str | None = None,
) -> None:
    """Set, delete and revert options of a container.

    Raises InvalidParameter naming each faulty key, Conflict when `digest` is of an older configuration, Locked.
    When it fails, nothing has changed and no new volume is left.
    """
    async with rooms.locks.hold(vmid, f"{by}:config", "config") as held, AsyncExitStack() as undo:
        guest = await rooms.guests.get(vmid)
        if digest is not None and digest != guest.digest:
            raise Conflict("detected modified configuration - file changed by other user? Try again.")
        removed = _check_deletions(guest, delete)
        _check_template(guest, changes, removed)
        changes = with_hardware_addresses(changes, ContainerConfig.parse(guest.wanted_config))
        await check_interfaces(rooms, changes.net)
        config, volumes = await plan_volumes(rooms, vmid, changes, volumes_of(guest))
        _check_changes(guest, config)
        unused = {key: str(guest.config[key]) for key in removed if key.startswith("unused")}
        check_unheld(guest, unused)
        doomed = [VolumeId.parse(volume) for volume in unused.values()]
        for volid in [*(volume.volid for volume in volumes), *doomed]:
            await held.record(str(volid))
        undo.push_async_callback(delete_volumes, rooms, [volume.volid for volume in volumes])
        for volume in volumes:
            await allocate_volume(rooms, volume)
        owned = {str(volid) for volid in present_volumes(guest)} - {str(volid) for volid in doomed}
        guest = await _applied(rooms, reverted(guest, revert), config.to_text(), removed, undo)
        waiting = owned_volumes(guest.pending, vmid).values()
        guest = guest.with_config(keep_unused(sorted(owned), guest.config, vmid, waiting))
        guest = await rooms.guests.update(guest)
        undo.pop_all()
        await delete_volumes(rooms, doomed)
    await rooms.network.register(vmid, guest.name, dict(ContainerConfig.parse(guest.config).net))


def shown_config(guest: Guest, *, current: bool = False) -> dict[str, Scalar]:
    """The configuration as `GET config` answers it: with pending values unless `current`, and the digest."""
    config = dict(guest.config) if current else guest.wanted_config
    return {**config, "digest": guest.digest}


def _check_deletions(guest: Guest, delete: Iterable[str]) -> list[str]:
    removed = list(dict.fromkeys(delete))
    known = {**guest.config, **guest.pending}
    for key in removed:
        if key in _NOT_REMOVABLE:
            raise InvalidParameter({"delete": f"unable to delete required option '{key}'"})
        if key == "template" and guest.is_template:
            raise InvalidParameter({"delete": f"{guest.title} stays a template: clone it"})
        if not ContainerConfig.knows(key):
            raise InvalidParameter({"delete": f"unknown option '{key[:60]}'"})
    return [key for key in removed if key in known]


def _check_template(guest: Guest, changes: ContainerOptions, removed: Iterable[str]) -> None:
    """A template's volumes may be the ground of others, and what is one stays one."""
    if changes.template is not None and changes.template != guest.is_template:
        raise InvalidParameter({"template": "is read-only: a container is made a template once, by the method for it"})
    touched = {*changes.to_text(), *removed}
    volumes = sorted(key for key in touched if key == "rootfs" or key.startswith(("mp", "unused")))
    if guest.is_template and volumes:
        raise InvalidParameter({volumes[0]: f"{guest.title} is a template: its volumes stay as they are"})


def _check_changes(guest: Guest, config: ContainerConfig) -> None:
    before = ContainerConfig.parse(guest.config)
    if config.unprivileged is not None and config.unprivileged != bool(before.unprivileged):
        raise InvalidParameter(
            {"unprivileged": "is read-only: whether a container is unprivileged is fixed when it is made"}
        )
    if config.rootfs and before.rootfs and config.rootfs.volume != before.rootfs.volume:
        raise InvalidParameter({"rootfs": "the volume of the root file system cannot be exchanged"})
    names = {nic.name for index, nic in before.net.items() if index not in config.net}
    for index, nic in config.net.items():
        if nic.name in names:
            raise InvalidParameter({f"net{index}": f"another interface is named '{nic.name}' already"})


async def _applied(
    rooms: Rooms, guest: Guest, values: Mapping[str, Scalar], removed: list[str], undo: AsyncExitStack
) -> Guest:
    """The record with the changes: in `config` what takes effect now, in `pending` what must wait."""
    if rooms.containers.state(guest.vmid) is GuestState.STOPPED:
        return with_changes(guest, values, removed, {*values, *removed})
    return with_changes(guest, values, removed, await hot.apply(rooms, guest, values, removed, undo))
