"""What the headers of disk image formats say, read without trusting a byte of them.

Every reader takes a `Window` over the image, reads a bounded number of bytes and follows nothing. What is wrong raises
HostFailure, never another error.

Sources: QEMU's docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0; Microsoft's [MS-VHDX] and Virtual Hard Disk
Image Format Specification 1.0; VirtualBox's include/VBox/vd-image (VDI 1.1).
"""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from bastide.base.errors import HostFailure
from bastide.base.units import GIB, MIB

MAX_VIRTUAL_SIZE = 64 * 1024 * GIB
"""Bytes of the largest disk that is believed: what ext4 and XFS can hold, with room to spare."""

_SECTOR = 512
_MAX_TABLE = 32 * MIB  # QEMU refuses a larger first-level table of qcow2; the other formats need less


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says.

    `virtual_size`: bytes that a guest sees; `backing`: the name of the image it builds on, as written there;
    `data_file`: whether its data lies in another file; `foreign`: why it cannot stand alone, in words, beyond these.
    """

    format: str
    virtual_size: int
    backing: str | None = None
    data_file: bool = False
    foreign: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """An image as its readers see it: its length in bytes, and up to `size` bytes at an offset."""

    length: int
    pread: Callable[[int, int], bytes]

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes. Raises HostFailure when they are not there."""
        data = self.pread(offset, size) if 0 <= offset <= self.length - size else b""
        if len(data) != size:
            raise HostFailure("the image is truncated")
        return data

    def some(self, offset: int, size: int) -> bytes:
        """As many of `size` bytes as there are."""
        return self.pread(offset, size) if 0 <= offset < self.length else b""


def detect(window: Window) -> str | None:
    """The format that the first bytes claim, or None: then it is raw, or nothing that is known."""
    head = window.some(0, 80)
    for magic, form in _MAGIC:
        if head.startswith(magic):
            return form
    if head[64:68] == b"\x7f\x10\xda\xbe":
        return "vdi"
    return None


_MAGIC = (
    (b"QFI\xfb\0\0\0\1", "qcow"),
    (b"QFI\xfb", "qcow2"),
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"LUKS\xba\xbe", "luks"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
)


def read(window: Window, form: str) -> ImageInfo:
    """What an image of that format says of itself. Raises HostFailure when it is no such image, or lies."""
    reader = _READERS.get(form)
    if reader is None:
        raise HostFailure(f"images of the format '{form}' cannot be used")
    info = reader(window)
    if info.virtual_size > MAX_VIRTUAL_SIZE:
        raise HostFailure(f"the {form} image claims {info.virtual_size} bytes, more than a disk can have")
    return info


def _raw(window: Window) -> ImageInfo:
    return ImageInfo("raw", window.length)


def _qcow2(window: Window) -> ImageInfo:
    head = window.some(0, 72)
    if len(head) < 72 or head[:4] != b"QFI\xfb" or not 2 <= int.from_bytes(head[4:8]) <= 3:
        raise HostFailure("the file is not a qcow2 image")
    (_, version, backing_at, backing_size, bits, size, encryption, l1_size, l1_at, refcounts_at, refcounts, snapshots,
     snapshots_at) = struct.unpack(">4sIQIIQIIQQIIQ", head)  # fmt: skip
    incompatible, header_size = 0, 72
    if version == 3:
        more = window.read(72, 32)
        incompatible, order, header_size = struct.unpack(">Q16xII", more)
        if order > 6 or header_size < 104 or header_size > 1 << bits % 64 or header_size % 8:
            raise HostFailure("the qcow2 image has a faulty header")
    if not 9 <= bits <= 21:
        raise HostFailure("the qcow2 image has clusters of an impossible size")
    _check_features(incompatible, encryption)
    entries = (1 << bits) // (16 if incompatible & 0x10 else 8)
    needed = -(-size // (entries << bits))
    if l1_size < needed or l1_size * 8 > _MAX_TABLE or refcounts << bits > 8 * MIB or snapshots > 65536:
        raise HostFailure("the qcow2 image has tables of an impossible size")
    for at, length in ((l1_at, l1_size * 8), (refcounts_at, refcounts << bits), (snapshots_at, snapshots * 40)):
        if length and (at % (1 << bits) or at + min(length, 8) > window.length):
            raise HostFailure("the qcow2 image has tables outside itself")
    if l1_size * 8 > max(64 * 1024, window.length):
        raise HostFailure("the qcow2 image has a first-level table that is larger than itself")
    backing = None
    if backing_at:
        if not 0 < backing_size <= 1023:
            raise HostFailure("the qcow2 image names another image by a name of an impossible length")
        backing = window.read(backing_at, backing_size).decode(errors="replace")
    external = bool(incompatible & 0x04) or _names_data_file(window, header_size, backing_at or 1 << bits)
    return ImageInfo("qcow2", size, backing, external)


def snapshots(window: Window) -> list[str]:
    """The names in a qcow2 image's table of snapshots, in its order. Raises HostFailure."""
    _qcow2(window)
    count, at = struct.unpack(">IQ", window.read(60, 12))
    found = []
    for _ in range(count):
        id_size, name_size, extra = struct.unpack(">12xHH20xI", window.read(at, 40))
        name = window.read(at + 40 + extra + id_size, name_size)
        found.append(name.decode(errors="replace"))
        at += (40 + extra + id_size + name_size + 7) // 8 * 8
    return found


def _check_features(incompatible: int, encryption: int) -> None:
    if encryption:
        raise HostFailure("the qcow2 image is encrypted")
    if incompatible & 0x02:
        raise HostFailure("the qcow2 image is marked as corrupt")
    # Dirty, corrupt, external data file, compression type, extended L2 entries: what there is as of QEMU 9.
    if incompatible & ~0x1F:
        raise HostFailure("the qcow2 image has features that are not known")


def _names_data_file(window: Window, at: int, end: int) -> bool:
    """Whether a header extension names a data file, or breaks off: then nobody knows what it would name."""
    for _ in range(64):
        if at + 8 > end:
            return False
        kind, length = struct.unpack(">II", window.read(at, 8))
        if kind == 0:
            return False
        if kind == 0x44415441 or length > end - at - 8:
            return True
        at += 8 + (length + 7) // 8 * 8
    raise HostFailure("the qcow2 image has too many header extensions")


_VMDK = struct.Struct("<4sIIQQQQIQQQ?4sH")
_VMDK_KINDS = frozenset({"monolithicSparse", "streamOptimized"})
_EXTENT = re.compile(r"^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(\S+)", re.MULTILINE)
_CREATE_TYPE = re.compile(r'^\s*createType\s*=\s*"([^"\n]{0,64})"', re.MULTILINE)
_DESCRIPTOR_SECTORS = 20


def _vmdk(window: Window) -> ImageInfo:
    if window.some(0, 4) != b"KDMV":
        raise HostFailure("the file is not a vmdk image that holds its data itself")
    capacity, described_at, described, directory = _vmdk_header(window.read(0, _VMDK.size))
    if directory == 0xFFFFFFFFFFFFFFFF:
        # streamOptimized: marker, header, end of stream, at the end of the file; that header counts.
        footer = window.read(window.length - 2 * _SECTOR, _VMDK.size)
        other, _, _, directory = _vmdk_header(footer)
        if other != capacity:
            raise HostFailure("the vmdk image has two headers that differ")
    if directory * _SECTOR >= window.length:
        raise HostFailure("the vmdk image has tables outside itself")
    places = {_SECTOR, described_at * _SECTOR}  # QEMU looks for a parent in the first place, whatever the header says
    size = min(max(described, _DESCRIPTOR_SECTORS), 128) * _SECTOR
    text = "\n".join(window.some(at, size).partition(b"\0")[0].decode("latin-1") for at in places if at)
    return ImageInfo("vmdk", capacity * _SECTOR, foreign=_vmdk_foreign(text, window, places, size))


def _vmdk_header(data: bytes) -> tuple[int, int, int, int]:
    """Sectors in all, where the descriptor is and how long, where the grain directory is. Raises HostFailure."""
    (magic, version, _, capacity, grain, described_at, described, entries, _, directory, _, _, _, _) = _VMDK.unpack(
        data
    )
    if magic != b"KDMV" or not 1 <= version <= 3:
        raise HostFailure("the vmdk image has a faulty header")
    if capacity == 0:
        raise HostFailure("the vmdk image holds no data itself: it refers to other files")
    if not (1 <= entries <= 512 and 1 <= grain <= 128 * 1024) or capacity // (grain * entries) * 4 > _MAX_TABLE:
        raise HostFailure("the vmdk image has tables of an impossible size")
    return capacity, described_at, described, directory


def _vmdk_foreign(text: str, window: Window, places: set[int], size: int) -> str | None:
    if any(b"parentFileNameHint" in window.some(at, size) for at in places if at):
        return "it builds on a parent image"
    kind = _CREATE_TYPE.search(text)
    if kind is not None and kind[1] not in _VMDK_KINDS:
        return f"it is of the type '{kind[1]}'"
    extents = _EXTENT.findall(text)
    if len(extents) > 1:
        return "it consists of several files"
    if extents and extents[0] != "SPARSE":
        return "its data lies in another file"
    return None


_VDI = struct.Struct("<64x4sIIII256xII12xI4xQIIII32x16s16s")


def _vdi(window: Window) -> ImageInfo:
    head = window.some(0, _VDI.size)
    if len(head) < _VDI.size or head[64:68] != b"\x7f\x10\xda\xbe":
        raise HostFailure("the file is not a VDI image")
    (_, version, _, kind, _, _, _, sector, size, block, _, blocks, _, link, parent) = _VDI.unpack(head)
    if version != 0x00010001 or sector not in (0, _SECTOR) or block != MIB or blocks * 4 > 8 * _MAX_TABLE:
        raise HostFailure("the VDI image has a faulty header")
    if size > blocks * block or blocks * 4 > window.length:
        raise HostFailure("the VDI image has tables of an impossible size")
    foreign = None if kind in (1, 2) and not any(link + parent) else "it builds on another image"
    return ImageInfo("vdi", size, foreign=foreign)


_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_PARENT = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le


def _vhdx(window: Window) -> ImageInfo:
    if window.some(0, 8) != b"vhdxfile":
        raise HostFailure("the file is not a VHDX image")
    foreign, sizes = None, set()
    for at in (192 * 1024, 256 * 1024):  # the region table, twice: which one counts is the reader's choice
        table = window.read(at, 64 * 1024)
        count = int.from_bytes(table[8:12], "little")
        if table[:4] != b"regi" or count > 2047:
            raise HostFailure("the VHDX image has a faulty region table")
        for entry in range(16, 16 + 32 * count, 32):
            if table[entry : entry + 16] == _METADATA:
                size, parent = _vhdx_metadata(window, *struct.unpack_from("<QI", table, entry + 16))
                sizes.add(size)
                foreign = "it builds on another image" if parent else foreign
    if len(sizes) != 1:
        raise HostFailure("the VHDX image does not say how large its disk is")
    return ImageInfo("vhdx", sizes.pop(), foreign=foreign)


def _vhdx_metadata(window: Window, at: int, length: int) -> tuple[int, bool]:
    """The disk's size, and whether there is a parent."""
    table = window.read(at, 64 * 1024)
    count = int.from_bytes(table[10:12], "little")
    if table[:8] != b"metadata" or count > 2047 or length < 64 * 1024:
        raise HostFailure("the VHDX image has faulty metadata")
    size, parent = 0, False
    for entry in range(32, 32 + 32 * count, 32):
        item, offset = table[entry : entry + 16], int.from_bytes(table[entry + 16 : entry + 20], "little")
        if item == _DISK_SIZE:
            size = int.from_bytes(window.read(at + offset, 8), "little")
        elif item == _PARAMETERS:
            parent |= bool(window.read(at + offset + 4, 1)[0] & 2)
        elif item == _PARENT:
            parent = True
    return size, parent


_VHD = struct.Struct(">8sIIQ4s4sI4sQQHBBI")
_EXACT_CREATORS = frozenset({b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"})


def _vpc(window: Window) -> ImageInfo:
    at = 0 if window.some(0, 8) == b"conectix" else window.length - _SECTOR
    head = window.some(at, _VHD.size) if window.length >= _SECTOR else b""
    if len(head) < _VHD.size or head[:8] != b"conectix":
        raise HostFailure("the file is not a VHD image")
    (_, _, _, header_at, _, creator, _, _, _, size, cylinders, heads, sectors, kind) = _VHD.unpack(head)
    if kind not in (2, 3, 4):
        raise HostFailure("the VHD image has a faulty header")
    if kind == 2 and size > window.length:
        raise HostFailure("the VHD image is truncated")
    if kind == 3:
        dynamic = window.read(header_at, 36)
        entries, block = struct.unpack_from(">II", dynamic, 28)
        if dynamic[:8] != b"cxsparse" or entries * 4 > _MAX_TABLE or not _SECTOR <= block <= GIB:
            raise HostFailure("the VHD image has tables of an impossible size")
    # QEMU believes the geometry unless it is the largest there is, or the image's maker gives exact sizes.
    geometry = cylinders * heads * sectors
    if geometry != 65535 * 16 * 255 and creator not in _EXACT_CREATORS:
        size = geometry * _SECTOR
    return ImageInfo("vpc", size, foreign="it builds on another image" if kind == 4 else None)


_READERS: Mapping[str, Callable[[Window], ImageInfo]] = MappingProxyType(
    {"raw": _raw, "qcow2": _qcow2, "vmdk": _vmdk, "vdi": _vdi, "vhdx": _vhdx, "vpc": _vpc}
)
