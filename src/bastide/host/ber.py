"""The part of ASN.1's Basic Encoding Rules (X.690) that LDAP uses (RFC 4511, section 5.1).

Tags have one byte, lengths are definite. Reading goes one level at a time and never recurses, so that no depth of
nesting costs anything. Distinguished encodings, which libraries read, are not enough: Active Directory writes lengths
in more bytes than they need.
"""

from dataclasses import dataclass

BOOLEAN = 0x01
INTEGER = 0x02
OCTETS = 0x04
ENUMERATED = 0x0A
SEQUENCE = 0x30
SET = 0x31

HEAD_LIMIT = 6
"""Bytes of the longest head that is read: a tag, and a length of four bytes after the one that says so."""


class MalformedError(ValueError):
    """Bytes that are no such encoding."""


@dataclass(frozen=True, slots=True)
class Element:
    """A tag with its class and form, and the bytes of its content."""

    tag: int
    body: bytes

    def expect(self, *tags: int) -> "Element":
        """Itself, if it has one of the tags. Raises MalformedError."""
        if self.tag not in tags:
            raise MalformedError(f"tag {self.tag:#04x} where {tags[0]:#04x} was expected")
        return self

    @property
    def number(self) -> int:
        """The whole number of an INTEGER or ENUMERATED, at most 8 bytes long. Raises MalformedError."""
        if not 1 <= len(self.body) <= 8:
            raise MalformedError(f"a number of {len(self.body)} bytes")
        return int.from_bytes(self.body, "big", signed=True)

    @property
    def text(self) -> str:
        """The content as UTF-8; what is none shows as replacement characters."""
        return self.body.decode(errors="replace")

    def children(self, tag: int | None = None) -> "list[Element]":
        """The elements inside, all of the tag if one is named. Raises MalformedError."""
        found, at = [], 0
        while at < len(self.body):
            head = head_of(self.body[at : at + HEAD_LIMIT])
            if head is None or at + sum(head) > len(self.body):
                raise MalformedError("an element that is longer than what it is in")
            start = at + head[0]
            found.append(Element(self.body[at], self.body[start : start + head[1]]))
            at = start + head[1]
        return found if tag is None else [element.expect(tag) for element in found]


def head_of(data: bytes) -> tuple[int, int] | None:
    """The length of an element's head and of its body; None while there are too few bytes. Raises MalformedError."""
    if len(data) < 2:
        return None
    if data[0] & 0x1F == 0x1F:
        raise MalformedError("a tag of several bytes")
    size = data[1]
    if size < 0x80:
        return 2, size
    count = size & 0x7F
    if not 1 <= count <= HEAD_LIMIT - 2:
        raise MalformedError("a length that is indefinite or longer than four bytes")
    return (2 + count, int.from_bytes(data[2 : 2 + count], "big")) if len(data) >= 2 + count else None


def encode(tag: int, *parts: bytes) -> bytes:
    """An element of these parts."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return encode(SEQUENCE, *parts)


def integer(value: int, tag: int = INTEGER) -> bytes:
    """An INTEGER, or with another tag an ENUMERATED."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return encode(tag, value.to_bytes(size, "big", signed=True))


def octets(value: str | bytes, tag: int = OCTETS) -> bytes:
    """An OCTET STRING; text as UTF-8. Raises UnicodeEncodeError for a lone surrogate."""
    return encode(tag, value.encode() if isinstance(value, str) else value)


def boolean(value: bool, tag: int = BOOLEAN) -> bytes:
    """A BOOLEAN."""
    return encode(tag, b"\xff" if value else b"\x00")
