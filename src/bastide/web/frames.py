"""What the web process and the daemon say to each other: frames on a UNIX stream socket.

A frame is a byte for its kind, four for the length of its content (big-endian), and the content. One stream carries one
request after the other:

    web process                            daemon
    HEAD (JSON, `Head`)
                                           WANT        once, when the body is asked for
    PART PART ... LAST                                 the body, only then
                                           START (JSON: status, reason, headers)
                                           PART ... LAST, or OVER: LAST, and the stream ends

A WebSocket's messages are TEXT and PART (binary) after the daemon's ACCEPT (JSON: subprotocol, headers), and CLOSE
(JSON: code, reason) ends it from either side; a tunnel is the same without TEXT. Whoever ends in the middle closes the
stream.

A head says what the client has sent, and the address that it came from. There is no field for a user: the daemon finds
out by itself who asks, from the client's own ticket or token. The kind of a frame decides what it is, and lengths where
it ends, so that no byte of a client's becomes a frame, a header or a second request.
"""

import ipaddress
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

HEAD, WANT, START, PART, LAST, OVER, ACCEPT, TEXT, CLOSE = b"hwsploatc"

MORE, GIVEN, FULL = b"m", b"g", b"f"
"""Between both on a pair of sockets of their own: the web process asks for one more stream, and gets it or does not."""

FRAME_LIMIT = 1024 * 1024 + 1024
"""Bytes of a frame's content: a WebSocket's message has at most 1 MiB."""

HEAD_FRAME_LIMIT = 64 * 1024
PIECE = 256 * 1024
"""Bytes of a body that are written as one frame."""

PREFIX = struct.Struct("!BI")

Buffer = bytes | bytearray | memoryview
Headers = Sequence[tuple[bytes, bytes]]
Kind = Literal["http", "websocket", "tunnel"]

_KINDS = frozenset(get_args(Kind))
_METHOD = re.compile(r"[A-Z-]{1,32}", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,8192}", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"[\x21-\x7e]*")
_MOST_HEADERS = 64


class BrokenFrame(Exception):  # noqa: N818 - it says what happened
    """What came is no frame, or none that may come here."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a request. `path` and `query` are as sent, not decoded; `client` is an address and a port.

    `body` says that one follows, if the daemon wants it.
    """

    kind: Kind
    method: str
    path: str
    query: str
    headers: Headers
    client: tuple[str, int]
    body: bool = False
    subprotocols: Sequence[str] = ()

    def to_bytes(self) -> bytes:
        """The content of a HEAD frame."""
        return json.dumps(
            {
                "kind": self.kind,
                "method": self.method,
                "path": self.path,
                "query": self.query,
                "headers": text_headers(self.headers),
                "client": self.client,
                "body": self.body,
                "subprotocols": list(self.subprotocols),
            }
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Head":
        """Read one as strictly as if an attacker had written it. Raises BrokenFrame."""
        if len(content) > HEAD_FRAME_LIMIT:
            raise BrokenFrame("a head is too long")
        try:
            given = json.loads(content)
            head = cls(
                kind=given["kind"],
                method=given["method"],
                path=given["path"],
                query=given["query"],
                headers=byte_headers(given["headers"]),
                client=(_address(given["client"][0]), int(given["client"][1])),
                body=given["body"] is True,
                subprotocols=[str(name) for name in given["subprotocols"]],
            )
            head.check()
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise BrokenFrame(f"a head cannot be read: {type(error).__name__}") from error
        return head

    def check(self) -> None:
        """Raise ValueError unless every part has its form."""
        line = (_METHOD.fullmatch(self.method), _TARGET.fullmatch(self.path), _TARGET.fullmatch(self.query))
        if self.kind not in _KINDS or not all(line):
            raise ValueError("the request's line")
        if len(self.headers) > _MOST_HEADERS:
            raise ValueError("too many headers")
        for name, value in self.headers:
            if not _NAME.fullmatch(name.decode("latin-1")) or not _VALUE.fullmatch(value.decode("latin-1")):
                raise ValueError("a header")


def _address(text: str) -> str:
    """An address in its one form; what an IPv6 socket shows of an IPv4 client is an IPv4 address. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return str((address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address)


def text_headers(headers: Headers) -> list[tuple[str, str]]:
    """Headers as JSON can hold them: each byte a character."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def byte_headers(headers: Sequence[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    """The way back. Raises ValueError or TypeError for what `text_headers` never makes."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def packed(kind: int, content: Buffer = b"") -> list[Buffer]:
    """A frame as pieces to write. Raises ValueError for one that is too long."""
    if len(content) > FRAME_LIMIT:
        raise ValueError(f"a frame of {len(content)} bytes is too long")
    return [PREFIX.pack(kind, len(content)), content]


def as_json(values: dict[str, Any]) -> bytes:
    """The content of a START, ACCEPT or CLOSE frame."""
    return json.dumps(values).encode()
