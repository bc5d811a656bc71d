"""Filters of LDAP searches, as they go over the wire (RFC 4511, section 4.5.1.7).

A value from outside is put into a filter by `equals` and is never a part of text that is parsed, so that it can mean
nothing but itself. `parse` reads what an administrator wrote, in the form of RFC 4515.
"""

import re
from collections.abc import Iterable

from bastide.host import ber

DEPTH = 32
"""How deep a written filter may nest."""

_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)(?:;[A-Za-z0-9-]+)*"
_ITEM = re.compile(rf"(?P<attribute>{_ATTRIBUTE})(?P<kind>>=|<=|~=|=)(?P<value>[^()\0]*)", re.ASCII)
_EXTENSIBLE = re.compile(
    rf"(?P<attribute>{_ATTRIBUTE})?(?P<dn>:dn)?(?::(?P<rule>[A-Za-z0-9.-]+))?:=(?P<value>[^()\0]*)", re.ASCII
)
_ESCAPE = re.compile(rb"\\(.{0,2})", re.DOTALL)
_SETS = {"&": 0xA0, "|": 0xA1}
_COMPARISONS = {">=": 0xA5, "<=": 0xA6, "~=": 0xA8}


def all_of(parts: Iterable[bytes]) -> bytes:
    """What every part matches."""
    return ber.encode(0xA0, *parts)


def any_of(parts: Iterable[bytes]) -> bytes:
    """What at least one part matches."""
    return ber.encode(0xA1, *parts)


def equals(attribute: str, value: str | bytes) -> bytes:
    """What has the value, whatever characters are in it."""
    return ber.encode(0xA3, ber.octets(attribute), ber.octets(value))


def present(attribute: str) -> bytes:
    """What has the attribute."""
    return ber.octets(attribute, 0x87)


def parse(text: str) -> bytes:
    """A written filter, the outermost parentheses of which may be missing. Raises ValueError with a sentence."""
    text = text.strip()
    whole = text if text.startswith("(") else f"({text})"
    found, end = _filter(whole, 0, DEPTH)
    if end != len(whole):
        raise ValueError(f"there is more after the filter's end: '{whole[end : end + 40]}'")
    return found


def _filter(text: str, at: int, depth: int) -> tuple[bytes, int]:
    """The filter that begins with the parenthesis at `at`, and where it ends."""
    if not depth:
        raise ValueError(f"it nests deeper than {DEPTH} levels")
    if text[at : at + 1] != "(":
        raise ValueError(f"a parenthesis is missing before '{text[at : at + 40]}'")
    mark = text[at + 1 : at + 2]
    if mark in ("&", "|", "!"):
        found, at = _several(text, at + 2, depth - 1)
        if mark == "!" and len(found) != 1:
            raise ValueError("'!' takes one filter")
        made = ber.encode(_SETS.get(mark, 0xA2), *found)
    else:
        made, at = _item(text, at + 1)
    if text[at : at + 1] != ")":
        raise ValueError(f"a closing parenthesis is missing before '{text[at : at + 40]}'")
    return made, at + 1


def _several(text: str, at: int, depth: int) -> tuple[list[bytes], int]:
    found = []
    while text[at : at + 1] == "(":
        part, at = _filter(text, at, depth)
        found.append(part)
    return found, at


def _item(text: str, at: int) -> tuple[bytes, int]:
    if match := _ITEM.match(text, at):
        return _simple(match), match.end()
    match = _EXTENSIBLE.match(text, at)
    if match is None or not (match["attribute"] or match["rule"]):
        raise ValueError(f"'{text[at : at + 40]}' is no comparison such as attribute=value")
    parts = [ber.octets(match[name], tag) for name, tag in (("rule", 0x81), ("attribute", 0x82)) if match[name]]
    dn = [ber.boolean(True, 0x84)] if match["dn"] else []
    return ber.encode(0xA9, *parts, ber.octets(_value(match["value"]), 0x83), *dn), match.end()


def _simple(match: re.Match[str]) -> bytes:
    attribute, kind, value = match["attribute"], match["kind"], match["value"]
    if kind != "=":
        return ber.encode(_COMPARISONS[kind], ber.octets(attribute), ber.octets(_value(value)))
    if value == "*":
        return present(attribute)
    first, *inner = value.split("*")
    if not inner:
        return equals(attribute, _value(value))
    pieces = [(0x80, first), *((0x81, piece) for piece in inner[:-1]), (0x82, inner[-1])]
    parts = [ber.octets(_value(piece), tag) for tag, piece in pieces if piece]
    if not parts:
        raise ValueError(f"'{value[:40]}' matches anything: write {attribute}=*")
    return ber.encode(0xA4, ber.octets(attribute), ber.sequence(*parts))


def _value(text: str) -> bytes:
    r"""The bytes of a value, in which `\2a` is the byte of that number."""

    def byte(match: re.Match[bytes]) -> bytes:
        if re.fullmatch(rb"[0-9A-Fa-f]{2}", match[1]) is None:
            raise ValueError("a backslash takes two hexadecimal digits")
        return bytes((int(match[1], 16),))

    return _ESCAPE.sub(byte, text.encode())
