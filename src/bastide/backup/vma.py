"""Proxmox VE's archive of a VM (VMA, version 1): a header with small files and the disks' names, then their contents.

A disk is cut into clusters of 64 KiB and these into blocks of 4 KiB, of which those that are zeros are left out. Up to
59 clusters of any disks, in any order, follow an extent's header that tells for each which blocks are there; every
cluster of a disk is told once. Numbers are big-endian but for the lengths of the header's blobs. The checksums are over
headers: of the contents there is none. Nothing of an archive is believed: whatever does not fit raises HostFailure.

Source: `vma_spec.txt` of Proxmox VE's QEMU.
"""

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bastide.base.errors import HostFailure
from bastide.base.units import MIB

BLOCK = 4096
CLUSTER = 65536
MOST_CLUSTERS = 59
EXTENT_HEADER = 512
MAX_EXTENT = EXTENT_HEADER + MOST_CLUSTERS * CLUSTER
MAX_HEADER = MIB
MAX_SIZE = CLUSTER << 32
"""Bytes that cluster numbers can tell of."""

_MAGIC, _EXTENT_MAGIC = b"VMA\0", b"VMAE"
_FIXED = struct.Struct(">4sI16sq16sIII")
_TABLES = struct.Struct(">256I256I")
_TABLES_AT = _FIXED.size + 1984
_DEVICE = struct.Struct(">I4xQ16x")
_DEVICES_AT = _TABLES_AT + _TABLES.size + 4
_HEADER = _DEVICES_AT + 256 * _DEVICE.size
_SUM_AT, _EXTENT_SUM_AT = 32, 24
_EXTENT = struct.Struct(f">4sHH16s16s{MOST_CLUSTERS}Q")
_BLOB_LIMIT = 0xFFFF
_MOST_DEVICES = 254
_DRIVE = re.compile(r"drive-([a-z]+\d+)(-backup)?", re.ASCII)

Buffer = bytes | bytearray | memoryview


class Readable(Protocol):
    """A raw binary stream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the beginning of the buffer; how much, 0 at the end."""


@dataclass(frozen=True, slots=True)
class Device:
    """A disk in an archive: its name there (`drive-scsi0`) and its bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What an archive begins with: `files` (`qemu-server.conf`) by name, `devices` by their number, from 1 on.

    `uuid` has 16 bytes, `created` is in seconds since the epoch.
    """

    uuid: bytes
    created: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)
    devices: Mapping[int, Device] = field(default_factory=dict)

    @property
    def disks(self) -> dict[str, int]:
        """The bytes of each disk by its option (`scsi0`)."""
        keys = {disk_key(device.name): device.size for device in self.devices.values()}
        return {key: size for key, size in keys.items() if key is not None}


def device_name(key: str) -> str:
    """How the disk of an option is called in an archive: `drive-scsi0`."""
    return f"drive-{key}-backup" if key == "tpmstate0" else f"drive-{key}"


def disk_key(name: str) -> str | None:
    """The option that a disk's name in an archive means, None for no disk's."""
    match = _DRIVE.fullmatch(name)
    if match is None or device_name(match[1]) != name:
        return None
    return match[1]


def render_header(header: Header) -> bytes:
    """The header of an archive. Raises HostFailure when a file is larger than 65,535 bytes, or nothing is in it."""
    empty = not header.devices and not header.files
    if empty or len(header.devices) > _MOST_DEVICES or len(header.files) > 256:
        raise HostFailure(f"an archive cannot hold {len(header.devices)} disks and {len(header.files)} files")
    blobs = bytearray(1)
    names, contents = [0] * 256, [0] * 256
    for index, (name, content) in enumerate(header.files.items()):
        names[index] = _add_blob(blobs, name, name.encode() + b"\0")
        contents[index] = _add_blob(blobs, name, content)
    devices = bytearray(256 * _DEVICE.size)
    for number, device in header.devices.items():
        if not (0 < number <= _MOST_DEVICES and 0 < device.size <= MAX_SIZE):
            raise HostFailure(f"an archive cannot hold a disk of {device.size} bytes")
        at = _add_blob(blobs, device.name, device.name.encode() + b"\0")
        _DEVICE.pack_into(devices, number * _DEVICE.size, at, device.size)
    size = (_HEADER + len(blobs) + 511) // 512 * 512
    if size > MAX_HEADER:
        raise HostFailure(f"the files of an archive are too large: {size} bytes of at most {MAX_HEADER}")
    data = bytearray(size)
    _FIXED.pack_into(data, 0, _MAGIC, 1, header.uuid, header.created, bytes(16), _HEADER, len(blobs), size)
    _TABLES.pack_into(data, _TABLES_AT, *names, *contents)
    data[_DEVICES_AT:_HEADER] = devices
    data[_HEADER : _HEADER + len(blobs)] = blobs
    data[_SUM_AT : _SUM_AT + 16] = _md5(data)
    return bytes(data)


def header_length(start: Buffer) -> int:
    """How long the header is that begins with at least 60 bytes `start`. Raises HostFailure for no archive."""
    if len(start) < _FIXED.size or bytes(start[:4]) != _MAGIC:
        raise HostFailure("this is no VMA archive")
    version, size = struct.unpack_from(">I", start, 4)[0], struct.unpack_from(">I", start, 56)[0]
    if version != 1:
        raise HostFailure(f"the archive is of version {version} of VMA, and only version 1 is known")
    if not _HEADER < size <= MAX_HEADER:
        raise damaged(f"its header claims {size} bytes")
    return int(size)


def parse_header(data: Buffer) -> Header:
    """Read a header of `header_length` bytes. Raises HostFailure."""
    size = header_length(data)
    if len(data) != size:
        raise damaged("it ends in its header")
    data = bytearray(data)
    _, _, uuid, created, checksum, blobs_at, blobs_size, _ = _FIXED.unpack_from(data)
    data[_SUM_AT : _SUM_AT + 16] = bytes(16)
    if _md5(data) != checksum:
        raise damaged("the checksum of its header is wrong")
    if blobs_at < _HEADER or blobs_at + blobs_size > size:
        raise damaged("its files lie outside its header")
    blobs = bytes(data[blobs_at : blobs_at + blobs_size])
    files, devices = _parse_files(data, blobs), _parse_devices(data, blobs)
    if not files and not devices:
        raise damaged("nothing is in it")
    return Header(uuid, created, files, devices)


def _parse_files(data: bytearray, blobs: bytes) -> dict[str, bytes]:
    tables = _TABLES.unpack_from(data, _TABLES_AT)
    files: dict[str, bytes] = {}
    for name_at, content_at in zip(tables[:256], tables[256:], strict=True):
        if name_at and content_at:
            name = _text(blobs, name_at)
            if name in files:
                raise damaged(f"it holds the file '{name}' twice")
            files[name] = _blob(blobs, content_at)
    return files


def _parse_devices(data: bytearray, blobs: bytes) -> dict[int, Device]:
    devices: dict[int, Device] = {}
    for number in range(1, 256):
        name_at, size = _DEVICE.unpack_from(data, _DEVICES_AT + number * _DEVICE.size)
        if not (name_at and size):
            continue
        devices[number] = Device(_text(blobs, name_at), size)
        if size > MAX_SIZE:
            raise damaged(f"the disk '{devices[number].name}' claims {size} bytes")
    names = [device.name for device in devices.values()]
    if len(set(names)) != len(names):
        raise damaged("two of its disks have the same name")
    return devices


def read_header(source: Readable) -> Header:
    """Read the header from the beginning of a stream, and no byte further. Raises HostFailure."""
    start = _exactly(source, bytearray(_FIXED.size))
    rest = bytearray(header_length(start) - len(start))
    return parse_header(start + _exactly(source, rest))


def render_extent(uuid: bytes, clusters: Sequence[tuple[int, int, int]]) -> bytes:
    """The header of an extent of up to 59 clusters: of each its disk's number, its own, and the mask of its blocks."""
    told = [mask << 48 | device << 32 | cluster for device, cluster, mask in clusters]
    blocks = sum(mask.bit_count() for _, _, mask in clusters)
    unsummed = (_EXTENT_MAGIC, 0, blocks, uuid, bytes(16), *told, *[0] * (MOST_CLUSTERS - len(told)))
    data = bytearray(_EXTENT.pack(*unsummed))
    data[_EXTENT_SUM_AT : _EXTENT_SUM_AT + 16] = _md5(data)
    return bytes(data)


def parse_extent(data: Buffer, uuid: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Read an extent's header: its clusters as in `render_extent`, and the bytes that follow. Raises HostFailure."""
    magic, reserved, blocks, whose, checksum, *told = _EXTENT.unpack(data)
    if magic != _EXTENT_MAGIC or reserved:
        raise damaged("where an extent should begin is something else")
    unsummed = bytearray(data)
    unsummed[_EXTENT_SUM_AT : _EXTENT_SUM_AT + 16] = bytes(16)
    if _md5(unsummed) != checksum:
        raise damaged("the checksum of an extent's header is wrong")
    if whose != uuid:
        raise damaged("it has an extent of another archive")
    clusters = [(info >> 32 & 0xFF, info & 0xFFFFFFFF, info >> 48) for info in told if info >> 32 & 0xFF]
    if sum(mask.bit_count() for _, _, mask in clusters) != blocks:
        raise damaged("an extent has not the blocks that it tells of")
    return clusters, blocks * BLOCK


def damaged(why: str) -> HostFailure:
    """The error of an archive that cannot be read."""
    return HostFailure(f"the archive is damaged: {why}")


def _exactly(source: Readable, data: bytearray) -> bytearray:
    view, got = memoryview(data), 0
    while got < len(data):
        part = source.readinto(view[got:])
        if not part:
            raise damaged("it ends in its header") if got else HostFailure("this is no VMA archive")
        got += part
    return data


def _add_blob(blobs: bytearray, name: str, data: bytes) -> int:
    if len(data) > _BLOB_LIMIT:
        raise HostFailure(f"'{name[:60]}' has {len(data)} bytes, and an archive's files have at most {_BLOB_LIMIT}")
    at = len(blobs)
    blobs += struct.pack("<H", len(data)) + data
    return at


def _blob(blobs: bytes, at: int) -> bytes:
    if at + 2 > len(blobs):
        raise damaged("its header points outside itself")
    end = at + 2 + int(struct.unpack_from("<H", blobs, at)[0])
    if end > len(blobs):
        raise damaged("its header points outside itself")
    return blobs[at + 2 : end]


def _text(blobs: bytes, at: int) -> str:
    name = _blob(blobs, at)
    try:
        text = name[:-1].decode()
    except UnicodeDecodeError:
        raise damaged("a name in its header is no text") from None
    if name[-1:] != b"\0" or not text.isprintable() or not 0 < len(text) < 256:
        raise damaged("a name in its header is none")
    return text


def _md5(data: Buffer) -> bytes:
    # A checksum of the format, against accidents: nothing is trusted for it.
    return hashlib.md5(data, usedforsecurity=False).digest()
