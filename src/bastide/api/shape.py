"""How answers are described: typed dictionaries that hold their keys and no others.

    @shape
    class LogLine(TypedDict):
        "A line of a task's log."

        n: int
        t: str

A route names one by `answer=`, which puts it into the OpenAPI document. Tests hold every answer against its own.
"""

from typing import Literal, NotRequired, TypeAlias

from pydantic import ConfigDict, with_config

# pydantic reads the marks of optional keys from this one alone before Python 3.12.
from typing_extensions import TypedDict

__all__ = ["Flag", "NotRequired", "Options", "State", "TypedDict", "shape"]

shape = with_config(ConfigDict(extra="forbid"))

Flag: TypeAlias = Literal[0, 1]
State: TypeAlias = Literal["running", "stopped"]
Options: TypeAlias = dict[str, str | int | float]
"""A configuration as it is written: options by their names, property strings as text."""
