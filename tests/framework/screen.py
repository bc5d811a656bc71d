"""What a guest shows in text mode, read from a picture of its screen.

A character cell is 16 pixels high and 8 or 9 wide (the ninth column is a gap). Its shape is looked up in the font of
the VGA BIOS that drew it: the table of 256 glyphs of 16 bytes is found in the ROM's file by the shape of an `A`.
"""

import io
from functools import cache
from pathlib import Path

from PIL import Image

_ROMS = (Path("/usr/share/seabios/vgabios-stdvga.bin"), Path("/usr/share/qemu/vgabios-stdvga.bin"))
_LETTER_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")
_HEIGHT = 16


def read_text(png: bytes) -> list[str]:
    """The lines on the screen; a cell that is no character is `?`, and so is all of a picture."""
    with Image.open(io.BytesIO(png)) as image:
        grey = image.convert("L")
    width = 9 if (grey.width % 9 == 0 and grey.width % 8 != 0) or grey.width == 720 else 8
    return [
        "".join(_character(grey, column * width, row * _HEIGHT) for column in range(grey.width // width)).rstrip()
        for row in range(grey.height // _HEIGHT)
    ]


def colours(png: bytes) -> int:
    """How many different colours a picture has; one that is blank has one."""
    with Image.open(io.BytesIO(png)) as image:
        return len(image.convert("RGB").getcolors(1 << 24) or [])


def _character(image: Image.Image, left: int, top: int) -> str:
    cell = image.crop((left, top, left + 8, top + _HEIGHT))
    pixels = list(cell.get_flattened_data())
    darkest = min(pixels)
    if darkest == max(pixels):
        return " "
    threshold = (darkest + max(pixels)) / 2
    rows = bytes(
        sum((pixels[row * 8 + column] > threshold) << (7 - column) for column in range(8)) for row in range(_HEIGHT)
    )
    glyphs = _glyphs()
    # Dark on light, as a menu's chosen line: the other way round.
    return glyphs.get(rows) or glyphs.get(bytes(byte ^ 0xFF for byte in rows)) or "?"


@cache
def _glyphs() -> dict[bytes, str]:
    rom = next(path for path in _ROMS if path.exists()).read_bytes()
    begin = rom.index(_LETTER_A) - 65 * _HEIGHT
    shapes = {rom[begin + code * _HEIGHT : begin + (code + 1) * _HEIGHT]: chr(code) for code in range(33, 127)}
    return {**shapes, bytes(_HEIGHT): " "}
