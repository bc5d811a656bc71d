"""Pictures of time series: read back with the rules of the format."""

import struct
import zlib

import pytest

from bastide.metrics.graph import render


def pixels(png: bytes) -> list[bytes]:
    """The rows of an eight bit image with a palette; every chunk's checksum is verified."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, size = 8, b"", (0, 0)
    while at < len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
            assert body[8:10] == b"\x08\x03"
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(data)
    width, height = size
    assert len(raw) == height * (width + 1)
    return [raw[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_a_line_runs_where_the_values_are() -> None:
    rows = [{"cpu": number / 99} for number in range(100)]
    image = pixels(render(rows, ["cpu"]))
    columns = {x: min(y for y, row in enumerate(image) if row[x] == 3) for x in (10, 400, 789)}
    assert columns[10] > columns[400] > columns[789]


def test_a_gap_stays_a_gap_and_other_values_have_other_colours() -> None:
    rows = [{"a": 1, "b": 2}, {}, {"a": 1, "b": 2}]
    image = pixels(render(rows, ["a", "b"]))
    assert {3, 4} <= {row[100] for row in image}
    assert {row[400] for row in image} & {3, 4} == set()


@pytest.mark.parametrize("rows", [[], [{}], [{"a": 0}], [{"a": -5}], [{"a": 1e30}]])
def test_nothing_breaks_it(rows: list[dict[str, float]]) -> None:
    assert pixels(render(rows, ["a"]))
