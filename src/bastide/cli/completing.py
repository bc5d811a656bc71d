"""Completion of names that only the daemon knows. Whatever goes wrong completes to nothing."""

from typing import Any

import typer

from bastide.base.errors import BastideError
from bastide.cli.session import Session


def guests(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names (or ids, where a digit was typed) of the guests, with their state."""
    found = []
    for row in _ask(ctx, "/cluster/resources", type="vm"):
        vmid, name = str(row.get("vmid", "")), str(row.get("name") or "")
        text = vmid if incomplete[:1].isdigit() or not name else name
        if text.startswith(incomplete):
            found.append((text, f"{row.get('type', '')} {vmid} {row.get('status', '')}"))
    return found


def storages(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the storages."""
    rows = _ask(ctx, "/storage")
    return [(row["storage"], row.get("type", "")) for row in rows if row["storage"].startswith(incomplete)]


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


def _ask(ctx: typer.Context, path: str, **params: Any) -> list[dict[str, Any]]:
    session = ctx.find_root().obj
    if not isinstance(session, Session):
        session = Session()
    try:
        return list(session.client().get(path, **params))
    except (BastideError, OSError, KeyError, TypeError):
        return []
