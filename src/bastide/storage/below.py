"""What a volume in a folder builds on: the file `.base` beside it.

    copy:100/base-100-disk-0.raw        a linked clone of that base, of which it needs nothing: their blocks are shared
    volume:100/base-100-disk-0.qcow2    the base is the layer below, or the backing file
    base:0123456789abcdef               the same of a base that belongs to no guest

A base has what it builds on itself beside it in the same way. A file whose volume is gone counts for nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.storage import sidecars
from bastide.storage.names import parse_name

SUFFIX = ".base"
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Below:
    """`copied`: the base whose blocks it shares; `volume` or `key`: the one without which it is nothing."""

    copied: str | None = None
    volume: str | None = None
    key: str | None = None

    @property
    def parent(self) -> str | None:
        """The base that the volume is a linked clone of."""
        return self.copied or self.volume

    @property
    def layered(self) -> bool:
        """Whether the volume holds only what differs."""
        return self.volume is not None or self.key is not None

    def to_text(self) -> str | None:
        """The file's content; None for a volume that builds on nothing."""
        lines = [("copy", self.copied), ("volume", self.volume), ("base", self.key)]
        return "".join(f"{kind}:{name}\n" for kind, name in lines if name is not None) or None

    @classmethod
    def parse(cls, text: str) -> "Below":
        """Read the file's content. Raises HostFailure."""
        found: dict[str, str] = {}
        for line in text.splitlines():
            kind, _, name = line.partition(":")
            if kind not in ("copy", "volume", "base") or kind in found or not _is_base(kind, name):
                raise HostFailure(f"what a volume builds on is not to be read: '{line[:80]}'")
            found[kind] = name
        if "volume" in found and "base" in found:
            raise HostFailure("a volume cannot build on two bases")
        return cls(found.get("copy"), found.get("volume"), found.get("base"))


NOTHING = Below()


def read(path: Path) -> Below:
    """What the volume at `path` builds on. Raises HostFailure."""
    return Below.parse(sidecars.read(path, SUFFIX) or "")


def check_key(key: str) -> str:
    """The key itself. Raises InvalidParameter."""
    if _KEY.fullmatch(key) is None:
        raise InvalidParameter({"key": f"'{key[:60]}' is not 16 hexadecimal digits"})
    return key


def _is_base(kind: str, name: str) -> bool:
    if kind == "base":
        return _KEY.fullmatch(name) is not None
    try:
        parsed = parse_name(name)
    except InvalidParameter:
        return False
    return parsed.is_base and parsed.place == name
