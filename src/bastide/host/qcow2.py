"""An empty qcow2 image over another one, written as data: starting qemu-img takes longer than all else of a clone.

Source: QEMU's docs/interop/qcow2.txt.
"""

import struct
from collections.abc import Iterator

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_TABLE_COVERS = _CLUSTER // 8 * _CLUSTER  # a cluster of L2 entries, in bytes of the disk
_L1 = 3 * _CLUSTER  # behind the header, the refcount table and its one block
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII8x")  # version 3, and the byte for the compression, padded
_BACKING_FORMAT = 0xE2792ACA
_LONGEST_NAME = 1023
_MOST_L1 = 32 << 20  # bytes; QEMU opens none that is larger


def empty_overlay(backing_name: str, backing_format: str, size: int) -> Iterator[tuple[int, bytes]]:
    """The parts (offset, bytes) of an image of `size` bytes, rounded up to sectors; between them are zeros.

    The last one ends the file. Raises ValueError for what no image can say.
    """
    sectors = -(-size // 512)
    tables = -(-sectors * 512 // _TABLE_COVERS)
    name, form = backing_name.encode(), backing_format.encode()
    if not 0 < len(name) <= _LONGEST_NAME or tables * 8 > _MOST_L1:
        raise ValueError(f"no qcow2 image of {size} bytes can build on '{backing_name[:80]}'")
    extensions = struct.pack(">II", _BACKING_FORMAT, len(form)) + form.ljust(-(-len(form) // 8) * 8, b"\0") + bytes(8)
    header = _HEADER.pack(
        b"QFI\xfb", 3, _HEADER.size + len(extensions), len(name), _CLUSTER_BITS, sectors * 512,
        0, tables, _L1, _CLUSTER, 1, 0, 0, 0, 0, 0, 4, _HEADER.size,
    )  # fmt: skip
    yield 0, header + extensions + name
    yield _CLUSTER, struct.pack(">Q", 2 * _CLUSTER)
    used = 3 + -(-tables * 8 // _CLUSTER)
    yield 2 * _CLUSTER, struct.pack(f">{used}H", *(1,) * used)
    yield _L1, bytes(tables * 8)
