"""What a fuzzed parser is: its name, how bytes reach it, and the errors that it may raise.

    @target("calendar", InvalidParameter)
    def calendar(data: bytes) -> None:
        again(CalendarEvent.parse, text(data))

A parser keeps its promise when nothing but those errors leaves it. `targets.py` knows all of them.
"""

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Parser = Callable[[bytes], object]

CORPUS = Path(__file__).resolve().parent / "corpus"
"""A folder of seeds for each target; what once broke a parser is one of them."""

TARGETS: dict[str, "Target"] = {}


@dataclass(frozen=True)
class Target:
    """`refuses`: the errors by which the parser says that the data is wrong."""

    name: str
    run: Callable[[bytes], object]
    refuses: tuple[type[BaseException], ...]

    def __call__(self, data: bytes) -> None:
        """Let the parser read it. Whatever it raises but its own errors is a fault."""
        try:
            self.run(data)
        except self.refuses:
            return

    def seeds(self) -> list[bytes]:
        """The seeds in the corpus, by name; large ones are kept compressed."""
        paths = sorted((CORPUS / self.name).iterdir())
        return [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths]


def target(name: str, *refuses: type[BaseException]) -> Callable[[Parser], Parser]:
    """Register a function as a target."""

    def register(run: Parser) -> Parser:
        assert name not in TARGETS, f"two targets are called {name}"
        TARGETS[name] = Target(name, run, refuses)
        return run

    return register


def text(data: bytes) -> str:
    """The bytes as text. Lone surrogates, as JSON can hold them, are kept."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def again(parse: Callable[[str], T], given: str, show: Callable[[T], str] = str) -> T:
    """Parse; what the result is written as has to be parsed to the same."""
    found = parse(given)
    shown = show(found)
    assert parse(shown) == found, f"{shown!r} is not read as what it was written from, {found!r}"
    return found


def split(data: bytes) -> tuple[int, bytes]:
    """A number that chooses, from the first byte, and the rest."""
    return (data[0] if data else 0), data[1:]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine."""
    return _loop().run_until_complete(work)
