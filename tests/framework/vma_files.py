"""VMA archives written by their specification alone (`vma_spec.txt` of Proxmox VE's QEMU), as Proxmox VE makes them."""

import hashlib
import struct
import uuid
from collections.abc import Mapping

_BLOCK, _CLUSTER = 4096, 65536
_FIXED = 12288
"""The header without its blobs."""


def vma(files: Mapping[str, bytes], disks: Mapping[str, bytes]) -> bytes:
    """An archive with these files (`qemu-server.conf`) and disks (`drive-scsi0`), whose zeros are left out."""
    whose = uuid.uuid4().bytes
    blobs = bytearray(b"\0")

    def blob(data: bytes) -> int:
        at = len(blobs)
        blobs.extend(struct.pack("<H", len(data)) + data)
        return at

    head = bytearray(_FIXED)
    for number, (name, data) in enumerate(files.items()):
        struct.pack_into(">I", head, 2044 + 4 * number, blob(name.encode() + b"\0"))
        struct.pack_into(">I", head, 3068 + 4 * number, blob(data))
    for number, (name, data) in enumerate(disks.items(), 1):
        struct.pack_into(">IIQ", head, 4096 + 32 * number, blob(name.encode() + b"\0"), 0, len(data))
    blobs.extend(bytes(-(len(head) + len(blobs)) % 512))
    struct.pack_into(">4sI16sq16sIII", head, 0, b"VMA\0", 1, whose, 1_700_000_000, bytes(16),
                     _FIXED, len(blobs), _FIXED + len(blobs))  # fmt: skip
    head += blobs
    head[32:48] = hashlib.md5(head).digest()
    clusters = [
        (number, index, data[at : at + _CLUSTER].ljust(_CLUSTER, b"\0"))
        for number, data in enumerate(disks.values(), 1)
        for index, at in enumerate(range(0, len(data), _CLUSTER))
    ]
    return bytes(head) + b"".join(_extent(whose, clusters[at : at + 59]) for at in range(0, len(clusters), 59))


def _extent(whose: bytes, clusters: list[tuple[int, int, bytes]]) -> bytes:
    infos, content = [], b""
    for number, index, data in clusters:
        blocks = [data[at : at + _BLOCK] for at in range(0, _CLUSTER, _BLOCK)]
        mask = sum(1 << place for place, block in enumerate(blocks) if block.strip(b"\0"))
        infos.append(mask << 48 | number << 32 | index)
        content += b"".join(block for block in blocks if block.strip(b"\0"))
    infos += [0] * (59 - len(infos))
    head = bytearray(struct.pack(">4sHH16s16s59Q", b"VMAE", 0, len(content) // _BLOCK, whose, bytes(16), *infos))
    head[24:40] = hashlib.md5(head).digest()
    return bytes(head) + content
