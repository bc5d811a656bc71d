"""What could become a storage: exports, shares and targets of other machines, volume groups and pools of this one."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from bastide.base.errors import HostFailure, RunError
from bastide.host import iscsi, scans, smb, volume_groups

T = TypeVar("T")


async def nfs(server: str) -> list[dict[str, str]]:
    """The exports of an NFS server. Raises HostFailure, NotSupported."""
    found = await _asked(f"'{server}' tells no exports", scans.exports(server))
    return [{"path": export.path, "options": export.clients} for export in found]


async def cifs(server: str, username: str | None, password: str | None, domain: str | None) -> list[dict[str, str]]:
    """The shares of an SMB server that this user sees. Raises HostFailure, NotSupported."""
    found = await smb.shares(server, username, password, domain)
    return [{"share": share.share, "description": share.description} for share in found]


async def iscsi_targets(portal: str) -> list[dict[str, str]]:
    """The targets of a portal, each with all its portals. Raises HostFailure, NotSupported."""
    portals: dict[str, list[str]] = {}
    for found in await _asked(f"'{portal}' tells no targets", iscsi.targets(portal)):
        portals.setdefault(found.target, []).append(found.portal)
    return [{"target": target, "portal": ",".join(places)} for target, places in portals.items()]


async def volume_group_names() -> list[dict[str, str]]:
    """The volume groups of this machine. Raises HostFailure, NotSupported."""
    return [{"vg": group.name} for group in await volume_groups.groups()]


async def thin_pools(group: str) -> list[dict[str, str]]:
    """The thin pools of a volume group. Raises HostFailure, NotSupported."""
    return [{"lv": pool.name} for pool in await volume_groups.thin_pools() if pool.group == group]


async def zfs() -> list[dict[str, str]]:
    """The ZFS pools and file systems of this machine. Raises HostFailure, NotSupported."""
    return [{"pool": name} for name in await scans.datasets()]


async def _asked(what: str, answer: Awaitable[Sequence[T]]) -> Sequence[T]:
    try:
        return await answer
    except RunError as error:
        reason = error.stderr.strip().splitlines()
        raise HostFailure(f"{what}: {reason[-1][:300] if reason else error}") from error
