"""`catalog`: the services that the architect knows."""

import os
import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, NotFound
from bastide.cli import completing, output
from bastide.cli.session import Session

_COLUMNS = [
    output.Column("name"),
    output.Column("category"),
    output.Column("installs"),
    output.Column("what it is", wrap=True),
]


def catalog(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="A service to show, or words to search for.",
            autocompletion=completing.services,
            show_default=False,
        ),
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="Only those of a category: web, dns, media ...")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option("--catalog", metavar="DIR", help="Also the entries in this folder of the host.")
    ] = None,
) -> None:
    """Show the services that the architect knows, or all about one."""
    session: Session = ctx.obj
    folder = host_folder(session, catalog)
    text = " ".join(words or ()).strip()
    if "/" in text:
        raise NotFound(f"no such service '{text}' in the catalog")
    client = session.client()
    rows: list[dict[str, Any]] = client.get("/architect/catalog", query=text or None, category=category, **folder)
    name = _meant(rows, text) if text and category is None else None
    if name is not None:
        from bastide.client.http import segment  # noqa: PLC0415 - a list needs no path

        entry: dict[str, Any] = client.get(f"/architect/catalog/{segment(name)}", **folder)
        if session.json:
            output.emit_json(entry)
        else:
            _show(entry, session.root_option)
        return
    if session.json:
        output.emit_json(rows)
        return
    output.table(_COLUMNS, [_cells(row) for row in rows], empty="no such service")
    if rows:
        output.note(f"{len(rows)} services; all about one: bastide catalog{session.root_option} NAME")


def host_folder(session: Session, folder: str | None) -> dict[str, str]:
    """The parameter of a call that names a folder with entries, from `--catalog`."""
    if not folder:
        return {}
    path = os.path.expanduser(folder)
    if session.remote and not os.path.isabs(path):
        raise InvalidParameter({"catalog": "say the whole path of the folder on the other host"})
    return {"catalog": os.path.abspath(path)}


def _meant(rows: list[dict[str, Any]], text: str) -> str | None:
    """The service that a text names rather than searches for; the daemon knows misspellings where nothing is found."""
    word = text.lower().replace(" ", "-")
    named = [row["name"] for row in rows if word in (row["name"], *row["aliases"])]
    if named or len(rows) == 1:
        return str((named or [rows[0]["name"]])[0])
    return None if rows else text


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["name"], row["category"], "yes" if row["installs"] else "", f"{row['title']}: {row['summary']}")


def _show(entry: dict[str, Any], root_option: str) -> None:
    output.line(output.styled(entry["title"], "1") + f"  {entry['summary']}")
    size = entry["size"]
    ports = [
        f"{port['port']}/{port['protocol']}" + (f" ({port['what']})" if port.get("what") else "")
        for port in entry.get("ports", ())
    ]
    facts: dict[str, str] = {
        "name": entry["name"],
        "aliases": ", ".join(entry.get("aliases", ())),
        "category": entry["category"],
        "needs": "\n".join(f"{key}: {_told(value)}" for key, value in entry.get("needs", {}).items()),
        "least": _extent(size["minimum"]),
        "usual": _extent(size["usual"]),
        "ports": "\n".join(ports),
        "keeps": entry["state"],
        "installs": f"bastide launch{root_option} {entry['name']}" if entry.get("recipe") else "",
        "upstream": entry.get("upstream", ""),
        "source": _filled(entry["source"]),
        "notes": "\n".join(_filled(note) for note in entry.get("notes", ())),
    }
    output.pairs({name: value for name, value in facts.items() if value})


def _filled(text: str) -> str:
    """Text in lines that fit beside the names on a terminal; in one line where there is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    return textwrap.fill(text, max(30, width - 12), break_long_words=False, break_on_hyphens=False)


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(_told(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(item)}" for key, item in value.items())
    return str(value)


def _extent(size: dict[str, Any]) -> str:
    cores = size["cores"]
    return f"{cores} core{'s' if cores != 1 else ''}, {size['memory']} memory, {size['disk']} disk"
