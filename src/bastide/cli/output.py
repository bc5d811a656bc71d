"""Printing: tables by Rich, JSON for programs. Values from guests and other users cannot move the cursor."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_STATUS_STYLES = {"running": "green", "stopped": "dim", "ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading and how it is set."""

    title: str
    justify: Literal["left", "right"] = "left"
    style: str | None = None
    wrap: bool = False


def emit_json(value: Any, *, only_if: bool = True) -> None:
    """Print a value as JSON, for a command that prints nothing else `only_if` JSON was asked for."""
    if not only_if:
        return
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def line(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(clean(text) + "\n")


def note(text: str) -> None:
    """Print a line for the person, beside the result: to standard error, after what was printed before."""
    sys.stdout.flush()
    sys.stderr.write(clean(text) + "\n")


def styled(text: str, code: str) -> str:
    """Text in an ANSI style (`1` bold, `32` green ...) when standard output is a terminal with colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return clean(text)
    return f"\033[{code}m{clean(text)}\033[0m"


def clean(text: str) -> str:
    """Text whose control characters cannot act on a terminal."""
    return "".join(char if char.isprintable() or char in "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, empty: str = "none") -> None:
    """Print a table, or the sentence `empty` when there are no rows."""
    rows = [[("" if cell is None else clean(str(cell))) for cell in row] for row in rows]
    if not rows:
        note(empty)
        return
    from rich import box  # noqa: PLC0415 - Rich takes 80 ms to import, so only printing a table pays
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        drawn.add_column(
            column.title, justify=column.justify, style=column.style, no_wrap=not column.wrap, overflow="fold"
        )
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STATUS_STYLES.get(cell, "")) for cell in row))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(drawn)
        return
    wide = Console(highlight=False, width=max(200, *(sum(map(len, row)) + 4 * len(row) for row in rows)))
    with wide.capture() as captured:  # a pipe has no width: nothing is cut there, nothing is filled up
        wide.print(drawn)
    sys.stdout.writelines(f"{text.rstrip()}\n" for text in captured.get().splitlines())


def pairs(values: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        first, *rest = str(value).splitlines() or [""]
        line(f"{name:<{width}}  {first}".rstrip())
        for text in rest:
            line(f"{'':<{width}}  {text}")


def findings(rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Print what was found: `ok`, `warn` or `fail`, a name, a sentence and, below it, what to do about it."""
    import shutil  # noqa: PLC0415 - only here
    import textwrap  # noqa: PLC0415

    rows = list(rows)
    name_width = max((len(name) for _, name, _, _ in rows), default=0)
    indent = " " * (name_width + 8)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    for state, name, found, advice in rows:
        mark = styled(f"{state:<4}", {"ok": "32", "warn": "33", "fail": "1;31"}.get(state, "0"))
        text = textwrap.wrap(clean(found), max(30, width - len(indent))) or [""]
        todo = textwrap.wrap(
            clean(advice), max(30, width - len(indent) - 2), initial_indent="→ ", subsequent_indent="  "
        )
        print(f"{mark}  {name:<{name_width}}  {text[0]}")
        for more in [*text[1:], *todo]:
            print(indent + more)


def size(count: float | None) -> str:
    """Bytes for people: `512 MiB`, `1.5 GiB`; empty when not known."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return (
                f"{value:.0f} {unit}" if unit == "B" or value >= 100 or value == int(value) else f"{value:.1f} {unit}"
            )
        value /= 1024
    return ""


def duration(seconds: float | None) -> str:
    """Seconds for people: `42s`, `5m 3s`, `2h 10m`, `3d 4h`; empty when not known or zero."""
    if not seconds:
        return ""
    total = int(seconds)
    days, hours, minutes = total // 86400, total // 3600 % 24, total // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {total % 60}s" if minutes else f"{total}s"


def moment(epoch: float | None) -> str:
    """A time of day with its date, in the reader's time zone; empty when not known."""
    if not epoch:
        return ""
    from datetime import datetime  # noqa: PLC0415 - only lists with times need it

    return datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def image_name(row: dict[str, Any]) -> str:
    """What to call an image on the command line: `debian-12`, or its file's name when nothing else is known."""
    return str(row.get("alias") or row.get("name") or row["volid"])
