"""Data that was good and is not any more: what fuzzers without a view into the program make of seeds."""

from collections.abc import Sequence
from random import Random

TOKENS: Sequence[bytes] = (
    b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\n", b"\r\n", b"\r\n\r\n", b"\x0b", b"\x1b",
    b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xc0\xaf", b"\xef\xbb\xbf", b"\xd9\xa3", b"\xc2\xb2", b",", b"=",
    b":", b";", b"%", b"%00", b"%0a", b"../", b"/", b"-1", b"0", b"99999999999999999999", b"1e999", b"NaN", b"Infinity",
    b"0x10", b"1_0", b" ", b"\t", b"[", b"]", b"{", b"}", b"[[[[[[[[", b'{"a":', b"null", b"true", b'""', b"\\u0000",
    b"\\ud800", b"*", b"..", b"#", b"&a ", b"*a", b"!!python/object:x ", b"<<: ", b"---\n", b"- ", b"| ", b'"', b"'",
)  # fmt: skip
"""Pieces that have broken parsers elsewhere."""


def mutate(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """The data after one to four changes; `others` may be mixed with it."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        _change(changed, random, others)
    return bytes(changed)


def _change(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 64)))
    kind = random.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        data[at:end] = random.randbytes(end - at)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        data[at:at] = random.choice(TOKENS)
    elif kind == 4:
        data[at:end] = random.choice(TOKENS)
    elif kind == 5:
        del data[at:]
    elif kind == 6:
        data[at:at] = data[at:end] * random.choice((1, 2, 30))
    elif others:
        other = random.choice(others)
        data[at:] = other[random.randint(0, len(other)) :]


SHAPES = ("seed", "open", "digits", "lines")
"""The shapes that have found most; the rest is for longer runs."""


def megabyte(seed: bytes, shape: str, size: int = 1 << 20) -> bytes:
    """A large input: the seed over and over, a line of it, or what nests or repeats; `half-` behind half the seed."""
    lines = seed.splitlines(keepends=True) or [b"x"]
    pieces = {"seed": seed or b"x", "first-line": lines[0], "last-line": lines[-1], **_PIECES}
    piece = pieces[shape.removeprefix("half-")]
    made = (piece * (size // len(piece) + 1))[:size]
    # Behind a good beginning, where the parser is already in the middle of something.
    return seed[: len(seed) // 2] + made if shape.startswith("half-") else made


_PIECES = {
    "open": b"[", "map": b'{"a":', "commas": b",", "digits": b"9", "spaces": b" ", "lines": b"\n", "letters": b"a",
    "tabs": b"\t", "zeros": b"\0", "pairs": b"a=1,", "dashes": b"- ", "escapes": b"\\040", "percents": b"%0",
}  # fmt: skip
ALL_SHAPES = ("seed", "first-line", "last-line", *_PIECES, *(f"half-{name}" for name in _PIECES))
