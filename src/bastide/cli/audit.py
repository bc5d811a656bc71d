"""`audit`: who did what from where, and what came of it."""

import re
import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import output
from bastide.cli.session import Session

_AGE = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PATH = "/bastide/audit"
_EVERY = 1.0  # seconds between two looks for what is new
_MOST = 5000


class Event(StrEnum):
    """What is recorded."""

    WRITE = "write"
    LOGIN = "login"
    CONSOLE = "console"
    READ = "read"


def audit(
    ctx: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(metavar="USER", help="A user with all their tokens, or a token.")] = None,
    path: Annotated[str | None, typer.Option(metavar="TEXT", help="A part of the path: `/lxc/100/`.")] = None,
    event: Annotated[Event | None, typer.Option(help="Changes, logins, consoles, or files that were read.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="An age (`2h`, `7d`) or a local time (`2026-01-31 14:00`).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="The same, for the end.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what was refused or failed.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many, the newest.", min=1, max=_MOST)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
) -> None:
    """Show the audit log: who did what from where, and what came of it. The newest comes last."""
    session: Session = ctx.obj
    wanted = {
        "user": user,
        "path": path,
        "event": event.value if event else None,
        "since": moment(since, "since"),
        "until": moment(until, "until"),
        "failed": failed or None,
    }
    rows: list[dict[str, Any]] = session.client().get(_PATH, limit=limit, **wanted)
    if session.json and not follow:
        output.emit_json(rows)
        return
    _print(rows, as_json=session.json)
    after = max((row["id"] for row in rows), default=_newest(session) if follow else 0)
    while follow:
        time.sleep(_EVERY)
        rows = session.client().get(_PATH, limit=_MOST, **{**wanted, "after": after})
        _print(rows, as_json=session.json)
        after = max((row["id"] for row in rows), default=after)


def moment(text: str | None, option: str) -> int | None:
    """A time on the command line as seconds since the epoch. Raises InvalidParameter that names the option."""
    if text is None:
        return None
    if match := _AGE.fullmatch(text):
        return max(0, int(time.time()) - int(match[1]) * _SECONDS[match[2]])
    from datetime import datetime  # noqa: PLC0415 - only who gives a date needs it

    try:
        return max(0, int(datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        raise InvalidParameter({option: f"'{text[:40]}' is no age (2h, 7d) and no time (2026-01-31 14:00)"}) from None


def _newest(session: Session) -> int:
    rows: list[dict[str, Any]] = session.client().get(_PATH, limit=1)
    return rows[0]["id"] if rows else 0


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    for row in reversed(rows):
        if as_json:
            output.emit_json(row)
        else:
            output.line(_line(row))


def _line(row: dict[str, Any]) -> str:
    failed = not 100 <= row["status"] < 400
    given = " ".join(f"{key}={value}" for key, value in row.get("parameters", {}).items())
    came_of_it = row.get("error") or row.get("upid") or ""
    parts = [
        output.moment(row["time"]),
        row["user"] or "-",
        f"from {row.get('address') or '-'}",
        f"{'FAILED' if failed else 'ok'} {row['status']}",
        f"{row.get('method', '')} {row.get('path', '')}".strip(),
        given,
        f"→ {came_of_it}" if came_of_it else "",
    ]
    return "  ".join(filter(None, parts))
