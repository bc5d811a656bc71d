"""`/nodes/{node}/scan`: what could become a storage."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import NodePath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.base.errors import MethodNotImplemented
from bastide.model.audit import Secret
from bastide.model.storage import Portal, Server
from bastide.operations import scan

_ALLOCATE = ("perm", "/storage", ("Datastore.Allocate",))

branch = Branch("/nodes/{node}/scan")


class ServerPath(NodePath):
    """A server of the network."""

    server: Server


class CifsQuery(ServerPath):
    """An SMB server, and who asks it."""

    username: Annotated[str | None, Field(max_length=255)] = None
    password: Annotated[str | None, Field(max_length=256), Secret()] = None
    domain: Annotated[str | None, Field(max_length=256)] = None


class PortalQuery(NodePath):
    """An iSCSI portal."""

    portal: Portal


class GroupQuery(NodePath):
    """A volume group."""

    vg: Annotated[str, Field(pattern=r"^[a-zA-Z0-9.+_][a-zA-Z0-9.+_-]+$", max_length=100)]


class BackupServerQuery(ServerPath):
    """A Proxmox Backup Server."""

    username: Annotated[str, Field(max_length=255)]
    password: Annotated[str, Field(max_length=256), Secret()]
    fingerprint: Annotated[str | None, Field(pattern=r"^([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}$")] = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None


@branch.get("", NodePath, user="all")
async def read_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """Index of scan methods."""
    return index("method", "cifs", "iscsi", "lvm", "lvmthin", "nfs", "pbs", "zfs")


@branch.get("/nfs", ServerPath, check=_ALLOCATE)
async def scan_nfs(_call: Call, p: ServerPath) -> list[dict[str, str]]:
    """The exports of an NFS server."""
    return await scan.nfs(p.server)


@branch.get("/cifs", CifsQuery, check=_ALLOCATE)
async def scan_cifs(_call: Call, p: CifsQuery) -> list[dict[str, str]]:
    """The shares of an SMB server."""
    return await scan.cifs(p.server, p.username, p.password, p.domain)


@branch.get("/iscsi", PortalQuery, check=_ALLOCATE)
async def scan_iscsi(_call: Call, p: PortalQuery) -> list[dict[str, str]]:
    """The targets of an iSCSI portal."""
    return await scan.iscsi_targets(p.portal)


@branch.get("/lvm", NodePath, check=_ALLOCATE)
async def scan_lvm(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """The volume groups of this machine."""
    return await scan.volume_group_names()


@branch.get("/lvmthin", GroupQuery, check=_ALLOCATE)
async def scan_thin_pools(_call: Call, p: GroupQuery) -> list[dict[str, str]]:
    """The thin pools of a volume group."""
    return await scan.thin_pools(p.vg)


@branch.get("/zfs", NodePath, check=_ALLOCATE)
async def scan_zfs(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """The ZFS pools and file systems of this machine."""
    return await scan.zfs()


@branch.get("/pbs", BackupServerQuery, check=_ALLOCATE)
async def scan_pbs(_call: Call, p: BackupServerQuery) -> Any:
    """The datastores of a Proxmox Backup Server: not built."""
    raise MethodNotImplemented(f"Method 'GET /nodes/{p.node}/scan/pbs' not implemented")
