"""Multipart bodies: small text forms at once, and uploads streamed to a file without a copy in memory or /tmp.

Clients send the text fields first and the file last, in a field named `filename` (RFC 7578).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from bastide.api.errors import RequestRefused

_TEXT_LIMIT = 512 * 1024
_FIELD_LIMIT = 200
STALL_DEADLINE = 60.0

# It writes a line about each faulty body, which its sender is told of already: nobody shall fill the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

Sink = Callable[[bytes], Awaitable[None]]
"""Takes the file's bytes, chunk by chunk; an empty chunk means that it is complete."""


@dataclass
class _Part:
    """A part being read: its headers, and its text unless it is a file."""

    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    text: bytearray = field(default_factory=bytearray)


class _Reader:
    """Collects what the push parser reports; file bytes wait in `chunks` until the caller takes them."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.file: _Part | None = None
        self.complete = False
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._size = 0
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._name,
                "on_header_value": self._value,
                "on_header_end": self._header,
                "on_headers_finished": self._headers,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse a piece of the body. Raises RequestRefused."""
        try:
            self.parser.write(data)
        except (MultipartParseError, UnicodeDecodeError):
            raise RequestRefused(400, "the multipart body is not readable") from None

    def _begin(self) -> None:
        if len(self.fields) >= _FIELD_LIMIT:
            raise RequestRefused(400, f"more than {_FIELD_LIMIT} fields")
        if self.file is not None:
            raise RequestRefused(400, "the file must be the last field of the upload")
        self._part = _Part()

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._count(end - start)

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._count(end - start)

    def _header(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        self._part.headers[name] = self._header_value.decode("latin-1")
        self._header_name.clear()
        self._header_value.clear()

    def _headers(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", ""))
        if b"name" not in options:
            raise RequestRefused(400, "a field of the multipart body has no name")
        self._part.name = options[b"name"].decode("utf-8", "strict")
        if b"filename" in options:
            self._part.filename = options[b"filename"].decode("utf-8", "strict")
            self.file = self._part

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self.chunks.append(data[start:end])
        else:
            self._count(end - start)
            self._part.text += data[start:end]

    def _end(self) -> None:
        if self._part.filename is None:
            self.fields.append((self._part.name, self._part.text.decode("utf-8")))

    def _finish(self) -> None:
        self.complete = True

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _TEXT_LIMIT:
            raise RequestRefused(413, f"for data too large (limit {_TEXT_LIMIT} bytes)")


def _boundary(content_type: str) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 256:
        raise RequestRefused(400, "the multipart body names no boundary")
    return boundary


def text_fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a multipart form without a file. Raises RequestRefused."""
    reader = _Reader(_boundary(content_type))
    reader.feed(body)
    if reader.file is not None:
        raise RequestRefused(400, "a file is not expected here")
    if not reader.complete:
        raise RequestRefused(400, "the multipart body is not complete")
    return reader.fields


async def read_upload(
    content_type: str,
    stream: AsyncIterator[bytes],
    open_sink: Callable[[list[tuple[str, str]], str], Awaitable[Sink]],
) -> None:
    """Read a multipart upload: when the file begins, `open_sink(fields, filename)` says where its bytes go.

    Raises RequestRefused when the body is not readable, incomplete, stalls, or holds no file.
    """
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise RequestRefused(400, "an upload is a multipart/form-data body with the file in the field 'filename'")
    reader = _Reader(_boundary(content_type))
    sink: Sink | None = None
    while not reader.complete:
        try:
            async with asyncio.timeout(STALL_DEADLINE):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RequestRefused(408, "the upload stalled") from None
        if chunk is None:
            break
        reader.feed(chunk)
        if reader.file is not None and sink is None:
            sink = await open_sink(reader.fields, reader.file.filename or "")
        for piece in reader.chunks:
            if sink is not None and piece:
                await sink(piece)
        reader.chunks.clear()
    if not reader.complete or sink is None:
        raise RequestRefused(400, "the upload is not complete" if sink else "the upload holds no file")
    await sink(b"")
