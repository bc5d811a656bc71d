"""VMA archives as `vma_spec.txt` has them, written down once more and simply: a second opinion on `bastide.backup.vma`.

The whole archive is in memory. `read` takes what Proxmox VE's own reader takes, and `write` orders clusters as the
backup of a running VM does: any way.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Archive:
    """What is in one; `devices` are names and contents by number."""

    files: dict[str, bytes] = field(default_factory=dict)
    devices: dict[int, tuple[str, bytes]] = field(default_factory=dict)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _summed(data: bytes, at: int) -> bytes:
    """The data with its checksum at that place."""
    return data[:at] + hashlib.md5(data[:at] + bytes(16) + data[at + 16 :]).digest() + data[at + 16 :]


def read(data: bytes) -> Archive:
    """Read an archive; an assertion fails where it is not as the specification says."""
    assert data[:8] == b"VMA\0\0\0\0\1"
    blobs_at, blobs_size, size = (_number(data, at, 4) for at in (48, 52, 56))
    header = data[:size]
    assert size % 512 == 0
    assert _summed(header, 32) == header
    blobs: dict[int, bytes] = {}
    at = 1
    while at + 2 <= blobs_size:
        length = int.from_bytes(header[blobs_at + at : blobs_at + at + 2], "little")
        blobs[at] = header[blobs_at + at + 2 : blobs_at + at + 2 + length]
        at += 2 + length
    found = Archive()
    for index in range(256):
        name, content = (_number(header, start + 4 * index, 4) for start in (2044, 3068))
        if name and content:
            assert blobs[name][-1:] == b"\0"
            found.files[blobs[name][:-1].decode()] = blobs[content]
    contents: dict[int, bytearray] = {}
    for index in range(1, 256):
        name, length = _number(header, 4096 + 32 * index, 4), _number(header, 4096 + 32 * index + 8, 8)
        if name and length:
            found.devices[index] = (blobs[name][:-1].decode(), b"")
            contents[index] = bytearray(length)
    told: set[tuple[int, int]] = set()
    rest = data[size:]
    while rest:
        rest = _read_extent(rest, header[8:24], contents, told)
    assert told == {(index, cluster) for index, disk in contents.items() for cluster in range(-(-len(disk) // 65536))}
    for index, disk in contents.items():
        found.devices[index] = (found.devices[index][0], bytes(disk))
    return found


def _read_extent(data: bytes, uuid: bytes, contents: Mapping[int, bytearray], told: set[tuple[int, int]]) -> bytes:
    header = data[:512]
    assert header[:6] == b"VMAE\0\0"
    assert header[8:24] == uuid
    assert _summed(header, 24) == header
    at = 512
    for info in range(40, 512, 8):
        mask, device, cluster = _number(header, info, 2), header[info + 3], _number(header, info + 4, 4)
        if device:
            assert (device, cluster) not in told
            told.add((device, cluster))
            for block in range(16):
                if mask >> block & 1:
                    start = cluster * 65536 + block * 4096
                    assert start < len(contents[device])
                    end = min(start + 4096, len(contents[device]))
                    contents[device][start:end] = data[at : at + end - start]
                    at += 4096
    assert at == 512 + 4096 * _number(header, 6, 2)
    return data[at:]


def write(archive: Archive, order: Sequence[tuple[int, int]], *, full: int = 58, whole: bool = False) -> bytes:
    """An archive whose clusters, (device, cluster), come in that order, `full` of them in an extent at most.

    `whole` stores all blocks of each cluster, zeros too, and beyond the end of a disk.
    """
    blobs = bytearray(1)

    def blob(data: bytes) -> bytes:
        at = len(blobs)
        blobs.extend(len(data).to_bytes(2, "little") + data)
        return at.to_bytes(4, "big")

    uuid = bytes(range(16))
    names, contents, devices = bytearray(1024), bytearray(1024), bytearray(8192)
    for index, (name, content) in enumerate(archive.files.items()):
        names[4 * index : 4 * index + 4] = blob(name.encode() + b"\0")
        contents[4 * index : 4 * index + 4] = blob(content)
    for index, (name, disk) in archive.devices.items():
        devices[32 * index : 32 * index + 16] = blob(name.encode() + b"\0") + bytes(4) + len(disk).to_bytes(8, "big")
    size = (12288 + len(blobs) + 511) // 512 * 512
    header = b"VMA\0\0\0\0\1" + uuid + (1_700_000_000).to_bytes(8, "big") + bytes(16)
    header += b"".join(number.to_bytes(4, "big") for number in (12288, len(blobs), size)) + bytes(1984)
    header += names + contents + bytes(4) + devices + blobs
    written = _summed(header + bytes(size - len(header)), 32)
    for begin in range(0, len(order), full):
        written += _extent(archive, order[begin : begin + full], uuid, whole)
    return written


def _extent(archive: Archive, clusters: Sequence[tuple[int, int]], uuid: bytes, whole: bool) -> bytes:
    infos, blocks = b"", []
    for device, cluster in clusters:
        data = archive.devices[device][1][cluster * 65536 : (cluster + 1) * 65536].ljust(65536, b"\0")
        mask = 0
        for block in range(16):
            if whole or any(data[block * 4096 : block * 4096 + 4096]):
                mask |= 1 << block
                blocks.append(data[block * 4096 : block * 4096 + 4096])
        infos += mask.to_bytes(2, "big") + bytes([0, device]) + cluster.to_bytes(4, "big")
    header = b"VMAE\0\0" + len(blocks).to_bytes(2, "big") + uuid + bytes(16) + infos.ljust(472, b"\0")
    return _summed(header, 24) + b"".join(blocks)
