"""Completion of names that only the daemon knows. Whatever goes wrong completes to nothing."""

from typing import Any

import typer

from bastide.base.errors import BastideError
from bastide.cli.session import Session

_DISK_KEYS = frozenset({"rootfs", "mp", "unused", "scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"})


def guests(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names (or ids, where a digit was typed) of the guests, with their state."""
    found = []
    for row in _ask(ctx, "/cluster/resources", type="vm"):
        vmid, name = str(row.get("vmid", "")), str(row.get("name") or "")
        text = vmid if incomplete[:1].isdigit() or not name else name
        if text.startswith(incomplete):
            found.append((text, f"{row.get('type', '')} {vmid} {row.get('status', '')}"))
    return found


def snapshots(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of the snapshots of the guest that was typed before."""
    rows = [row for path in _guest_path(ctx) for row in _ask(ctx, f"{path}/snapshot")]
    return [
        (row["name"], str(row.get("description") or "").partition("\n")[0])
        for row in rows
        if row["name"] != "current" and row["name"].startswith(incomplete)
    ]


def disks_of_guest(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Keys of the disks of the guest that was typed before."""
    found = []
    for path in _guest_path(ctx):
        for key, value in _ask_one(ctx, f"{path}/config").items():
            stem = key.rstrip("0123456789")
            if stem in _DISK_KEYS and key.startswith(incomplete):
                found.append((key, str(value).partition(",")[0]))
    return sorted(found)


def backups(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Volume ids of the backups, and `latest:` with a guest's name."""
    found = [(f"latest:{name}", text) for name, text in guests(ctx, incomplete.removeprefix("latest:"))]
    for node in _nodes(ctx):
        for storage in _ask(ctx, f"/nodes/{node}/storage", content="backup", enabled=True):
            rows = _ask(ctx, f"/nodes/{node}/storage/{storage['storage']}/content", content="backup")
            found += [(row["volid"], str(row.get("notes") or "").partition("\n")[0]) for row in rows]
    return [(text, told) for text, told in found if text.startswith(incomplete)]


def host_disks(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The disks of the machine."""
    rows = [row for node in _nodes(ctx) for row in _ask(ctx, f"/nodes/{node}/disks/list", skipsmart=True)]
    return [(row["devpath"], str(row.get("model", ""))) for row in rows if row["devpath"].startswith(incomplete)]


def storages(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the storages."""
    rows = _ask(ctx, "/storage")
    return [(row["storage"], row.get("type", "")) for row in rows if row["storage"].startswith(incomplete)]


def storage_types(incomplete: str) -> list[str]:
    """Types of storages."""
    from bastide.model.storage import TYPES  # noqa: PLC0415 - pydantic, which only this completion loads

    return [name for name in TYPES if name.startswith(incomplete)]


def images(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of images that `launch` knows."""
    from bastide.cli.output import image_name  # noqa: PLC0415 - only a shell that completes an image asks

    names = dict.fromkeys(image_name(row) for row in _ask(ctx, "/bastide/images"))
    return [(name, "") for name in names or ["debian-12"] if name.startswith(incomplete)]


def launchable(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of images and of services."""
    return images(ctx, incomplete) + services(ctx, incomplete)


def services(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of the catalog's entries."""
    rows = _ask(ctx, "/architect/catalog")
    return [(row["name"], row.get("title", "")) for row in rows if row["name"].startswith(incomplete)]


def _nodes(ctx: typer.Context) -> list[str]:
    return [row["node"] for row in _ask(ctx, "/nodes")]


def _guest_path(ctx: typer.Context) -> list[str]:
    """The branch of the API of the guest that stands on the line already, if there is one."""
    named = str(ctx.params.get("guest") or "")
    rows = _ask(ctx, "/cluster/resources", type="vm")
    return [
        f"/nodes/{row['node']}/{row['type']}/{row['vmid']}"
        for row in rows
        if named in (str(row.get("vmid")), row.get("name"))
    ][:1]


def _ask_one(ctx: typer.Context, path: str) -> dict[str, Any]:
    session = ctx.find_root().obj
    try:
        return dict((session if isinstance(session, Session) else Session()).client().get(path))
    except (BastideError, OSError, KeyError, TypeError, ValueError):
        return {}


def _ask(ctx: typer.Context, path: str, **params: Any) -> list[dict[str, Any]]:
    session = ctx.find_root().obj
    if not isinstance(session, Session):
        session = Session()
    try:
        return list(session.client().get(path, **params))
    except (BastideError, OSError, KeyError, TypeError):
        return []
