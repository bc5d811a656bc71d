"""Every branch of the API, in the order of Proxmox's tree."""

from bastide.api import (
    access,
    access_users,
    capabilities,
    cluster,
    console,
    downloads,
    execute,
    files,
    hardware,
    image_servers,
    lxc,
    lxc_status,
    node_power,
    node_storage,
    node_tasks,
    nodes,
    own,
    pools,
    qemu,
    qemu_agent,
    qemu_cloudinit,
    qemu_disks,
    qemu_monitor,
    qemu_status,
    snapshots,
    spice,
    storage,
    upload,
    version,
)
from bastide.api.routing import Branch, Route

_BRANCHES: tuple[Branch, ...] = (
    version.branch,
    access.branch,
    access_users.branch,
    cluster.branch,
    nodes.branch,
    hardware.branch,
    capabilities.branch,
    node_power.branch,
    node_tasks.branch,
    node_storage.branch,
    upload.branch,
    downloads.branch,
    lxc.branch,
    lxc_status.branch,
    qemu.branch,
    qemu_status.branch,
    spice.branch,
    qemu_disks.branch,
    qemu_agent.branch,
    qemu_cloudinit.branch,
    qemu_monitor.branch,
    snapshots.branch,
    console.branch,
    storage.branch,
    pools.branch,
    execute.branch,
    files.branch,
    image_servers.branch,
    own.branch,
)


def routes() -> list[Route]:
    """All declared methods; literal paths before those with placeholders, so that the first match is the right one."""
    declared = [route for branch in _BRANCHES for route in branch.routes]
    return sorted(declared, key=lambda route: [part[0] == "{" for part in route.path.strip("/").split("/")])
