"""What the audit log holds of a call, and which of its parameters it may hold.

Parameters are marked where they are declared:

    password: Annotated[str, Field(max_length=64), Secret()]
    content: Annotated[str, Bulk()]

A value is shown only under a name that the method declares: what was misspelt may be a password as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NotRequired, get_args
from urllib.parse import urlsplit, urlunsplit

from pydantic import ConfigDict, with_config

# pydantic reads the marks of optional keys from this one alone before Python 3.12.
from typing_extensions import TypedDict

from bastide.model.record import Record, indexed_fields

VALUE_LIMIT = 512
"""Characters of a value, and of a path or an error, that are kept."""

HIDDEN = "***"

Event = Literal["write", "login", "console", "read"]
"""A change, a login or a further step of one, the opening of a console, guests' data that left the host."""

_INDEXED_KEY = re.compile(r"([a-z][a-z0-9_-]*?)(0|[1-9]\d{0,2})", re.ASCII)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}://\S+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Secret:
    """Marks a parameter whose value stands in no log and no answer."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Marks a parameter of which the audit log tells only how much it is: contents of files, commands."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of the audit log.

    `id` and `time` are the log's to give: `id` grows with every line, whatever the clock does; `time` is seconds since
    the epoch. `user` is a user or token
    id, empty for who is not known; `address` the peer's, `socket` for the local one. `status` is the answer's: 101
    for a console that was opened, 0 for a call that the end of the daemon interrupted.
    """

    event: Event
    user: str
    address: str
    method: str
    path: str
    status: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    upid: str | None = None
    error: str | None = None
    id: int = 0
    time: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the call was refused or did not succeed."""
        return not 100 <= self.status < 400


@with_config(ConfigDict(extra="forbid"))
class AuditRow(TypedDict):
    """A record as it is answered and stored: what is empty is left out, but for `user`."""

    id: int
    time: float
    event: str
    user: str
    status: int
    address: NotRequired[str]
    method: NotRequired[str]
    path: NotRequired[str]
    parameters: NotRequired[dict[str, str]]
    upid: NotRequired[str]
    error: NotRequired[str]


def shown(kind: type[Record], values: Mapping[str, Any]) -> dict[str, str]:
    """A call's parameters as the audit log keeps them; `kind` is the record that declares them."""
    marks, stems = _marks(kind)
    result = {}
    for key, value in values.items():
        match = _INDEXED_KEY.fullmatch(key)
        name = stems[match[1]] if match and match[1] in stems else key
        result[cut(key)[:64]] = _shown(value, marks[name]) if name in marks else HIDDEN
    return result


def cut(text: str) -> str:
    """A text of at most `VALUE_LIMIT` characters, its end said to be missing."""
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 1]}…"


def marked(kind: type[Record]) -> dict[str, Secret | Bulk | None]:
    """The parameters that a record declares, by the names that callers use, each with its mark."""
    return dict(_marks(kind)[0])


def _shown(value: Any, mark: Secret | Bulk | None) -> str:
    if isinstance(mark, Secret):
        return HIDDEN
    if isinstance(value, Mapping):
        return f"{len(value)} keys"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if mark is not None or any(isinstance(item, Mapping | list | tuple) for item in value):
            return f"{len(value)} values"
        return cut(",".join(_shown(item, None) for item in value))
    if mark is not None:
        return f"{len(str(value))} characters"
    return cut(_ADDRESS.sub(_without_secrets, str(value)))


def _without_secrets(found: re.Match[str]) -> str:
    """An address without what lets somebody in there: a name and password, a signed query."""
    try:
        parts = urlsplit(found[0])
    except ValueError:
        return HIDDEN
    place = parts.netloc.rpartition("@")[2]
    place = f"{HIDDEN}@{place}" if "@" in parts.netloc else place
    return urlunsplit((parts.scheme, place, parts.path, HIDDEN if parts.query else "", ""))


@cache
def _marks(kind: type[Record]) -> tuple[dict[str, Secret | Bulk | None], dict[str, str]]:
    """{name: mark}, and {stem of indexed keys: name}."""
    marks: dict[str, Secret | Bulk | None] = {}
    for name, info in kind.model_fields.items():
        found = [mark for mark in [*info.metadata, *_inner(info.annotation)] if isinstance(mark, Secret | Bulk)]
        marks[info.alias or name] = found[0] if found else None
    return marks, {stem: name for name, stem in indexed_fields(kind).items()}


def _inner(annotation: Any) -> list[Any]:
    """The marks inside an optional or repeated type."""
    found = list(getattr(annotation, "__metadata__", ()))
    for part in get_args(annotation):
        found += _inner(part)
    return found
