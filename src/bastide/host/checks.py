"""The shape of one finding of `bastide doctor`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One look: `ok` works, `warn` works with less, `fail` keeps guests from running. `advice` says what to do."""

    name: str
    ok: Literal["ok", "warn", "fail"]
    message: str
    advice: str = ""


Checks = Iterator[Check]
