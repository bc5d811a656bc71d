"""Sizes in Proxmox VE's text form: a number with an optional K, M, G or T, powers of 1024."""

import re
from decimal import Decimal

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024**4}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([KMGT]?)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of a size such as `8G` or `512M`; no unit means bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:40]}' is not a size such as 8G or 512M")
    return int(Decimal(match[1]) * _FACTORS[match[2]])


def format_size(size: int) -> str:
    """The shortest exact form of a number of bytes: `8G`, `1536M`, `1000`."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _FACTORS[unit] == 0:
            return f"{size // _FACTORS[unit]}{unit}"
    return str(size)


def readable(size: float) -> str:
    """A number of bytes for people, with three digits at most: `512 MiB`, `1.5 GiB`."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.3g} {units[0]}" if value < 999.5 else f"{value:.0f} {units[0]}"
