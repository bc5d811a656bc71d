"""A picture of a time series: a small PNG (ISO/IEC 15948) with a grid, a line for each value, and the highest figure.

Pure: rows in, bytes out.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _MARGIN = 800, 200, 10
_WHITE, _GRID, _TEXT = 0, 1, 2
_PALETTE = bytes.fromhex("ffffffd8d8d8404040115fa694ae0aa61120ff880924ad9a7c7474a66111")
_FIRST_LINE = 3
_LINES = len(_PALETTE) // 3 - _FIRST_LINE
# Three columns of five pixels a sign, the highest bit on top.
_SIGNS = {
    "0": (31, 17, 31), "1": (8, 31, 0), "2": (23, 21, 29), "3": (21, 21, 31), "4": (28, 4, 31), "5": (29, 21, 23),
    "6": (31, 21, 23), "7": (16, 19, 28), "8": (31, 21, 31), "9": (29, 21, 31), ".": (0, 1, 0), "e": (14, 21, 9),
    "+": (4, 14, 4), "-": (4, 4, 4),
}  # fmt: skip

Rows = Sequence[Mapping[str, float | int]]


def render(rows: Rows, keys: Sequence[str]) -> bytes:
    """A PNG of 800 by 200 pixels of the rows' values under the keys; a gap where nothing was measured."""
    pixels = [bytearray(_WIDTH) for _ in range(_HEIGHT)]
    for line in range(5):
        pixels[_y(line / 4)][_MARGIN : _WIDTH - _MARGIN] = bytes([_GRID]) * (_WIDTH - 2 * _MARGIN)
    top = max((float(row[key]) for row in rows for key in keys if key in row), default=0.0)
    for number, key in enumerate(keys):
        _draw(pixels, rows, key, top or 1.0, _FIRST_LINE + number % _LINES)
    _write(pixels, f"{top:.4g}")
    return _png(pixels)


def _y(share: float) -> int:
    return round(_HEIGHT - 1 - _MARGIN - share * (_HEIGHT - 2 * _MARGIN - 1))


def _draw(pixels: list[bytearray], rows: Rows, key: str, top: float, color: int) -> None:
    before: int | None = None
    for x in range(_MARGIN, _WIDTH - _MARGIN):
        if not rows:
            return
        value = rows[(x - _MARGIN) * len(rows) // (_WIDTH - 2 * _MARGIN)].get(key)
        if value is None:
            before = None
            continue
        y = _y(max(0.0, float(value)) / top)
        first, last = sorted((y, y if before is None else before))
        for row in range(first, last + 1):
            pixels[row][x] = color
        before = y


def _write(pixels: list[bytearray], text: str) -> None:
    x = _MARGIN + 4
    for sign in text:
        for column in _SIGNS.get(sign, ()):
            for bit in range(5):
                if column & (16 >> bit):
                    for dx in (0, 1):
                        for dy in (0, 1):
                            pixels[_MARGIN + 4 + 2 * bit + dy][x + dx] = _TEXT
            x += 2
        x += 2


def _png(pixels: list[bytearray]) -> bytes:
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 3, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in pixels), 6)
    chunks = ((b"IHDR", header), (b"PLTE", _PALETTE), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
