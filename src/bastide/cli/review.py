"""`review`: what could be better about guests, and the commands that mend it."""

import shutil
import sys
import textwrap
from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.cli import completing, output
from bastide.cli.session import Session


class Window(StrEnum):
    """Spans of samples."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


_STYLES = {"risk": "1;31", "waste": "33", "note": "36"}
_INDENT = " " * 9
_KINDS = {"ct": "CT", "vm": "VM"}


def review(
    ctx: typer.Context,
    guest: Annotated[
        str | None,
        typer.Argument(
            metavar="GUEST", help="Name or id. Default: all.", autocompletion=completing.guests, show_default=False
        ),
    ] = None,
    window: Annotated[Window, typer.Option("--window", help="The span that is judged.")] = Window.WEEK,
) -> None:
    """Find guests of the wrong size or the wrong kind, and say what mends them.

    Nothing is changed.
    """
    session: Session = ctx.obj
    found: dict[str, Any] = session.client().get("/architect/review", window=str(window), guest=guest)
    if session.json:
        output.emit_json(found)
        return
    if not found["guests"]:
        output.note("no guests")
    for one in found["guests"]:
        _tell(one, session.root_option)
    _total(found)


def _tell(one: dict[str, Any], root: str) -> None:
    """A guest, its findings, and what could not be judged."""
    span = f"{one['samples']} samples since {output.moment(one['since'])}" if one["samples"] else "no samples"
    state = "" if one["running"] else ", stopped"
    output.line(output.styled(f"{one['name']} ({_KINDS[one['kind']]} {one['vmid']}{state}, {span})", "1"))
    for finding in one["findings"]:
        _tell_finding(finding, root)
    if not one["findings"]:
        _paragraph("ok", "32", "nothing found" if one["unknown"] else "right as it is")
    for text in one["unknown"]:
        _paragraph("unknown", "2", text)
    output.line()


def _tell_finding(finding: dict[str, Any], root: str) -> None:
    sure = "" if finding["confidence"] in ("certain", "high") else f" ({finding['confidence']} confidence)"
    severity = finding["severity"]
    _paragraph(severity, _STYLES.get(severity, "0"), f"{finding['finding']}{sure}")
    _paragraph("", "0", f"{'saves ' if severity == 'waste' else ''}{finding['effect']}")
    for command in finding["commands"]:
        # Never wrapped: it is to be copied.
        output.line(f"{_INDENT}$ {_with_root(command, root)}")
    if finding["how"]:
        _paragraph("", "0", finding["how"])


def _with_root(command: str, root: str) -> str:
    program, _, rest = command.partition(" ")
    return f"{program}{root} {rest}"


def _paragraph(word: str, style: str, text: str) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    first, *more = textwrap.wrap(output.clean(text), max(30, width - len(_INDENT))) or [""]
    print(f"{output.styled(f'{word:<7}', style)}  {first}".rstrip())
    for line in more:
        print(f"{_INDENT}{line}")


def _total(found: dict[str, Any]) -> None:
    saving = found["saving"]
    parts = []
    if saving["memory"]:
        parts.append(f"{output.size(saving['memory'])} of memory")
    if saving["cores"]:
        parts.append(f"{saving['cores']:g} processors")
    if parts:
        output.line(f"to be saved: {' and '.join(parts)}")
