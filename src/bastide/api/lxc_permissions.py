"""What each option of a container needs beyond the method's own permission, as Proxmox VE's text says it.

A table: option -> privilege on the guest. What reaches the host (bind mounts, devices, hook scripts, features,
locks) is root@pam's alone, whatever roles others have; a token is never root@pam.
"""

import re
from collections.abc import Iterable

from bastide.api.guest_permissions import Place, check_bridge, root_only
from bastide.api.routing import Call
from bastide.api.volume_permissions import check_volume
from bastide.base.errors import InvalidParameter, named_by
from bastide.model.container import ContainerOptions, Features, MountPoint, RootFs

_PRIVILEGE: dict[str, str] = {
    **dict.fromkeys(("cores", "cpulimit", "cpuunits"), "VM.Config.CPU"),
    **dict.fromkeys(("memory", "swap"), "VM.Config.Memory"),
    **dict.fromkeys(("net", "nameserver", "searchdomain", "hostname"), "VM.Config.Network"),
    **dict.fromkeys(("rootfs", "mp", "unused"), "VM.Config.Disk"),
}
_OTHER = "VM.Config.Options"
_ROOT_ONLY: dict[str, str] = {
    "dev": "configuring device passthrough is only allowed for root@pam",
    "hookscript": "changing the hookscript is only allowed for root@pam",
    "lock": "only root@pam may set or delete a lock",
}
_NEW_VOLUME = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):(\d+(\.\d+)?)", re.ASCII)


def stem(key: str) -> str:
    """`net0` -> `net`: an option's name without its index."""
    match = re.fullmatch(r"(net|mp|dev|unused)\d+", key)
    return match[1] if match else key


async def check_create(
    call: Call, vmid: int, options: ContainerOptions, *, template: str | None, storage: str, pool: str | None = None
) -> None:
    """Raise PermissionDenied unless the caller may make this container of a template, which may not be there yet."""
    if call.is_root:
        return
    if pool is None or not await call.may(f"/pool/{pool}", "VM.Allocate"):
        await call.require(f"/vms/{vmid}", "VM.Allocate")
    if not options.unprivileged:
        await check_privileged(call)
    if template is not None:
        await _check_template(call, template)
    await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    await check_options(call, vmid, options, pool=pool, unprivileged=bool(options.unprivileged))


async def check_restore(place: Place, options: ContainerOptions, *, storage: str) -> None:
    """Raise PermissionDenied unless the caller may give a container these options in place of a backup's own."""
    call = place.call
    if options.rootfs is None:
        await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    await check_options(call, place.vmid, options, pool=place.pool, unprivileged=options.unprivileged is not False)


async def _check_template(call: Call, volid: str) -> None:
    """Raise PermissionDenied unless the caller may read a template."""
    with named_by("ostemplate"):
        await check_volume(call, volid)


async def check_restored(call: Call, options: ContainerOptions) -> None:
    """Raise PermissionDenied unless the caller may let a container have what a backup's options ask of the host.

    What root@pam alone may set is no part of them any more.
    """
    if call.is_root:
        return
    if not options.unprivileged:
        await check_privileged(call)
    for nic in options.net.values():
        await check_bridge(call, nic)


async def check_options(
    call: Call,
    vmid: int,
    options: ContainerOptions,
    removed: Iterable[str] = (),
    *,
    pool: str | None = None,
    before: ContainerOptions | None = None,
    unprivileged: bool = True,
) -> None:
    """Raise PermissionDenied unless the caller may set these options and delete those.

    `pool` is the pool a new guest shall be in, `before` the present options of one that exists.
    """
    if call.is_root:
        return
    place = Place(call, vmid, pool)
    given = {name for name in ContainerOptions.model_fields if getattr(options, name) not in (None, {})}
    deleted = {stem(key) for key in removed}
    for name in sorted(given | deleted):
        if name in _ROOT_ONLY:
            raise root_only(_ROOT_ONLY[name])
        if name == "features":
            await _check_features(place, options.features, before, unprivileged=unprivileged)
        else:
            await place.require(_PRIVILEGE.get(name, _OTHER))
    for key, mount in _mounts(options):
        await _check_mount(call, vmid, key, mount.volume)
    for index, volume in options.unused.items():
        await _check_mount(call, vmid, f"unused{index}", volume.volume)
    for nic in options.net.values():
        await check_bridge(call, nic)


async def check_copied(call: Call, options: ContainerOptions) -> None:
    """Raise PermissionDenied unless the caller may give a copy what a container has of the host.

    Whoever has the copy is root in it: one that is not unprivileged needs what making it needs.
    """
    if call.is_root:
        return
    if not options.unprivileged:
        await check_privileged(call)
    if options.dev:
        raise root_only(_ROOT_ONLY["dev"])
    for nic in options.net.values():
        await check_bridge(call, nic)


async def check_privileged(call: Call) -> None:
    """Raise PermissionDenied unless the caller may make a container whose root is the host's."""
    await call.require("/", "Sys.Modify")


async def _check_features(
    place: Place,
    features: Features | None,
    before: ContainerOptions | None,
    *,
    unprivileged: bool,
) -> None:
    if not unprivileged:
        raise root_only("changing feature flags for privileged container is only allowed for root@pam")
    old = (before.features.to_text() if before is not None and before.features else {}) | {"nesting": 0}
    new = (features.to_text() if features else {}) | {"nesting": 0}
    if {key: value for key, value in old.items() if value} != {key: value for key, value in new.items() if value}:
        raise root_only("changing feature flags (except nesting) is only allowed for root@pam")
    await place.require("VM.Allocate")


def _mounts(options: ContainerOptions) -> list[tuple[str, RootFs | MountPoint]]:
    mounts: list[tuple[str, RootFs | MountPoint]] = [(f"mp{index}", mount) for index, mount in options.mp.items()]
    if options.rootfs is not None:
        mounts.append(("rootfs", options.rootfs))
    return mounts


async def _check_mount(call: Call, vmid: int, key: str, volume: str) -> None:
    if volume.startswith("/"):
        raise root_only("mount point type bind is only allowed for root@pam")
    fresh = _NEW_VOLUME.fullmatch(volume)
    if fresh:
        await call.require(f"/storage/{fresh[1]}", "Datastore.AllocateSpace")
        return
    try:
        await check_volume(call, volume, vmid)
    except InvalidParameter as error:
        raise InvalidParameter({key: str(error)}) from None
