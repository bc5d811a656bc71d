"""VMA archives: against a second reading of their specification, in any order of clusters, and damaged ones."""

import contextlib
import io
import os
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bastide.backup import vma
from bastide.backup.vma import BLOCK, CLUSTER, Buffer, Device, Header
from bastide.backup.vma_stream import Reader, Writer, masks
from bastide.base.errors import HostFailure
from framework import vma_by_spec
from framework.vma_by_spec import Archive

KIB = 1024
CONFIG = {"qemu-server.conf": b"name: web\nscsi0: local:100/x,size=1M\n", "qemu-server.fw": b"[OPTIONS]\n"}

_NAMES = ("drive-scsi0", "drive-efidisk0", "drive-tpmstate0-backup", "drive-virtio15", "other")


@st.composite
def disks(draw: st.DrawFn) -> bytes:
    """A disk of some clusters, mostly zeros, whose end may be anywhere."""
    size = draw(st.integers(1, 5 * CLUSTER)) if draw(st.booleans()) else draw(st.integers(1, 70)) * BLOCK
    disk = bytearray(size)
    for at in draw(st.lists(st.integers(0, size - 1), max_size=8)):
        part = draw(st.sampled_from((b"\1", b"text", bytes(range(256)) * 32, b"\xff" * CLUSTER)))
        disk[at : at + len(part)] = part[: size - at]
    return bytes(disk)


archives = st.builds(
    lambda files, contents: Archive(files, {n: (name, disk) for n, (name, disk) in enumerate(contents.items(), 1)}),
    st.dictionaries(st.sampled_from(("qemu-server.conf", "qemu-server.fw", "é")), st.binary(max_size=2000)),
    st.dictionaries(st.sampled_from(_NAMES), disks(), min_size=1, max_size=4),
)


def clusters_of(archive: Archive) -> list[tuple[int, int]]:
    return [(n, at) for n, (_, disk) in archive.devices.items() for at in range(-(-len(disk) // CLUSTER))]


def header_of(archive: Archive) -> Header:
    devices = {number: Device(name, len(disk)) for number, (name, disk) in archive.devices.items()}
    return Header(b"sixteen bytes id", 1_700_000_000, archive.files, devices)


def written(archive: Archive, part: int = 8 * CLUSTER, *, holes: bool = False) -> bytes:
    """What our writer makes of it, fed with parts of that size; `holes`: zeros are told as such."""
    out = bytearray()

    def write(pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            out.extend(piece)

    writer = Writer(write, vma.render_header(header_of(archive)))
    for number, (_, disk) in archive.devices.items():
        for at in range(0, len(disk), part):
            data = disk[at : at + part]
            if holes and not any(data):
                writer.zeros(number, at // CLUSTER, (at + len(data) + CLUSTER - 1) // CLUSTER)
            else:
                writer.data(number, at // CLUSTER, bytearray(data.ljust(part, b"\xaa")), len(data))
    writer.flush()
    return bytes(out)


def contents(data: bytes, chunk: int = 1 << 20) -> Archive:
    """What our reader makes of it, from a stream that gives a little at a time; no piece is told twice."""

    class Trickle(io.BytesIO):
        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            return super().readinto(buffer[:chunk])

    reader = Reader(Trickle(data))
    found = {number: bytearray(b"\xbb" * device.size) for number, device in reader.header.devices.items()}
    told = dict.fromkeys(found, 0)
    for number, offset, length, piece in reader.pieces():
        assert length > 0
        assert offset + length <= len(found[number])
        found[number][offset : offset + length] = bytes(length) if piece is None else piece
        assert len(piece or b"") in (0, length)
        told[number] += length
    assert told == {number: len(disk) for number, disk in found.items()}
    devices = reader.header.devices
    return Archive(dict(reader.header.files), {n: (devices[n].name, bytes(disk)) for n, disk in found.items()})


@settings(max_examples=60, deadline=None)
@given(archives, st.sampled_from((1, 3, 8)), st.booleans())
def test_what_is_written_is_what_the_specification_says(archive: Archive, part: int, holes: bool) -> None:
    data = written(archive, part * CLUSTER, holes=holes)
    assert vma_by_spec.read(data) == archive
    assert contents(data) == archive


@settings(max_examples=60, deadline=None)
@given(st.data(), archives, st.integers(1, 59), st.booleans())
def test_what_others_write_is_read(data: st.DataObject, archive: Archive, full: int, whole: bool) -> None:
    order = data.draw(st.permutations(clusters_of(archive)))
    there = vma_by_spec.write(archive, order, full=full, whole=whole)
    assert contents(there, data.draw(st.sampled_from((7, 513, 1 << 20)))) == archive


def test_many_clusters_fill_extents() -> None:
    """A disk of 150 clusters is three extents; one whose every other block is there has eight runs a cluster."""
    patchy = (b"\0" * BLOCK + b"x" * BLOCK) * 8 * 90
    archive = Archive(CONFIG, {1: ("drive-scsi0", os.urandom(60 * CLUSTER)), 2: ("drive-scsi1", patchy)})
    data = written(archive)
    assert vma_by_spec.read(data) == archive
    assert contents(data) == archive
    assert data.count(b"VMAE") == 3
    assert len(data) < 60 * CLUSTER + 90 * CLUSTER // 2 + 3 * 512 + vma.header_length(data) + 1


@given(st.lists(st.sampled_from((b"\0" * BLOCK, b"\0" * 4095 + b"x", b"x" * BLOCK)), max_size=40), st.integers(0, 5000))
def test_masks(blocks: list[bytes], tail: int) -> None:
    data = b"".join(blocks) + b"\0" * tail
    found = masks(data + b"junk", len(data))
    assert len(found) == -(-len(data) // CLUSTER)
    for number in range(16 * len(found)):
        block = data[number * BLOCK : (number + 1) * BLOCK]
        assert bool(found[number // 16] >> number % 16 & 1) == any(block)


def test_names_of_disks() -> None:
    for key in ("scsi0", "virtio15", "efidisk0", "tpmstate0", "ide3", "sata5"):
        assert vma.disk_key(vma.device_name(key)) == key
    assert vma.device_name("scsi0") == "drive-scsi0"
    assert vma.device_name("tpmstate0") == "drive-tpmstate0-backup"
    for strange in (
        "vmstate",
        "scsi0",
        "drive-",
        "drive-scsi0-backup",
        "drive-tpmstate0",
        "drive-../x0",
        "drive-scsi٣",
    ):
        assert vma.disk_key(strange) is None
    header = header_of(
        Archive({}, {1: ("drive-tpmstate0-backup", b"x"), 2: ("vmstate", b"yy"), 3: ("drive-ide0", b"z")})
    )
    assert header.disks == {"tpmstate0": 1, "ide0": 1}


def test_the_header_alone() -> None:
    archive = Archive(CONFIG, {1: ("drive-scsi0", b"x" * BLOCK), 7: ("drive-scsi1", b"y")})
    stream = io.BytesIO(vma.render_header(header_of(archive)) + b"rest")
    assert vma.read_header(stream) == header_of(archive)
    assert stream.read() == b"rest"


def test_an_archive_without_disks() -> None:
    assert contents(written(Archive(CONFIG))) == Archive(CONFIG)


def test_what_an_archive_cannot_hold() -> None:
    disk = {1: Device("drive-scsi0", BLOCK)}
    with pytest.raises(HostFailure, match="65535"):
        vma.render_header(Header(bytes(16), files={"qemu-server.conf": bytes(65536)}, devices=disk))
    for devices in ({}, {0: Device("x", 1)}, {255: Device("x", 1)}, {1: Device("x", 0)}, {1: Device("x", 2**49)}):
        with pytest.raises(HostFailure, match="cannot hold"):
            vma.render_header(Header(bytes(16), devices=devices))
    many = {f"file{number}": bytes(60000) for number in range(20)}
    with pytest.raises(HostFailure, match="too large"):
        vma.render_header(Header(bytes(16), files=many, devices=disk))


# archives that are damaged or lie

SMALL = Archive(
    CONFIG, {1: ("drive-scsi0", b"x" * (2 * CLUSTER + 5000)), 2: ("drive-scsi1", bytes(BLOCK) + b"y" * 100)}
)
GOOD = written(SMALL)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_any_byte_may_be_another(changes: list[tuple[int, int]], mended: bool) -> None:
    """Nothing but HostFailure, and never beyond a disk, also when the checksums of the headers are right."""
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    if mended:
        data[:] = resummed(bytes(data))
    with contextlib.suppress(HostFailure):
        reader = Reader(io.BytesIO(data))
        for number, offset, length, _ in reader.pieces():
            assert 0 < length <= reader.header.devices[number].size - offset


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
@example(0)
@example(60)
@example(vma.header_length(GOOD))
def test_it_may_end_anywhere(length: int) -> None:
    with pytest.raises(HostFailure, match=r"no VMA|damaged"):
        contents(GOOD[:length])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_anything_may_follow_the_magic(junk: bytes) -> None:
    for start in (b"", b"VMA\0", GOOD[: vma.header_length(GOOD)]):
        if start or junk[:4] != b"VMA\0":
            with pytest.raises(HostFailure):
                contents(start + junk)


def resummed(data: bytes) -> bytes:
    """With right checksums of the header and of the first extent."""
    size = struct.unpack_from(">I", data, 56)[0]
    if not 12288 <= size <= len(data):
        return data
    header = vma_by_spec._summed(data[:size], 32)
    extent = data[size : size + 512]
    return header + (vma_by_spec._summed(extent, 24) if len(extent) == 512 else extent) + data[size + 512 :]


def altered(at: int, form: str, *values: int, extent: bool = False, devices: bool = True) -> bytes:
    data = bytearray(GOOD)
    if not devices:
        data[4096:12288] = bytes(8192)
    struct.pack_into(form, data, at + (vma.header_length(GOOD) if extent else 0), *values)
    return resummed(bytes(data))


def told(device: int, cluster: int, mask: int) -> int:
    return mask << 48 | device << 32 | cluster


LIES = {
    "another version": (altered(4, ">I", 2), "version 2"),
    "a header without an end": (altered(56, ">I", 0xFFFFFE00), "its header claims"),
    "a header that is none": (altered(56, ">I", 512), "its header claims"),
    "blobs before the header": (altered(48, ">I", 0), "outside its header"),
    "blobs behind the header": (altered(52, ">I", 0x7FFFFFFF), "outside its header"),
    "a name outside": (altered(2044, ">I", 0xFFFFFF), "points outside"),
    "a name in the middle": (altered(2044, ">I", 9), "damaged"),
    "a disk without an end": (altered(4096 + 32 + 8, ">Q", 2**63), "claims 9223372036854775808"),
    "disks beyond everything": (altered(4096 + 32 + 8, ">Q", 2**48), "more than 256 TiB"),
    "the same disk twice": (altered(4096 + 64, ">I", struct.unpack_from(">I", GOOD, 4096 + 32)[0]), "the same name"),
    "no disk": (altered(4096 + 32, ">72x"), "does not name"),
    "nothing": (altered(2044, ">8x", devices=False), "nothing is in it"),
    "another archive's extent": (altered(8, ">16x", extent=True), "another archive"),
    "no extent": (altered(0, ">4x", extent=True), "something else"),
    "reserved": (altered(4, ">H", 1, extent=True), "something else"),
    "too few blocks": (altered(6, ">H", 1, extent=True), "not the blocks"),
    "too many blocks": (altered(6, ">H", 0xFFFF, extent=True), "not the blocks"),
    "an unknown disk": (altered(40, ">Q", told(9, 0, 0xFFFF), extent=True), "does not name"),
    "beyond the end": (altered(40, ">Q", told(1, 3, 0xFFFF), extent=True), "beyond the end"),
    "far beyond the end": (altered(40, ">Q", told(1, 0xFFFFFFFF, 0xFFFF), extent=True), "beyond the end"),
    "blocks beyond the end": (altered(40 + 8 * 2, ">Q", told(1, 2, 0b101), extent=True), "beyond the end"),
    "twice": (altered(40, ">Q", told(1, 1, 0xFFFF), extent=True), "twice"),
    "missing": (altered(40 + 8 * 3, ">Q", 0, extent=True), "not the blocks"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies(name: str) -> None:
    data, why = LIES[name]
    with pytest.raises(HostFailure, match=why):
        contents(data)


def test_a_cluster_that_is_missing() -> None:
    archive = Archive({}, {1: ("drive-scsi0", bytes(3 * CLUSTER))})
    with pytest.raises(HostFailure, match="1 clusters of 'drive-scsi0' are missing"):
        contents(vma_by_spec.write(archive, [(1, 0), (1, 2)]))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_is_claimed_costs_no_memory() -> None:
    """128 TiB that are never told of, and a stream that goes on without sense."""
    header = vma.render_header(Header(bytes(16), devices={1: Device("drive-scsi0", 2**47)}))
    before = resident()
    reader = Reader(io.BytesIO(header + bytes(1 << 20)))
    with pytest.raises(HostFailure, match="something else"):
        next(reader.pieces())
    assert resident() - before < 32 << 20


def test_saved_memory_is_passed_over() -> None:
    """Proxmox VE once wrote a VM's memory as a device without a known end."""
    archive = Archive({}, {1: ("vmstate", b"m" * 3 * CLUSTER), 2: ("drive-scsi0", b"d" * CLUSTER)})
    data = vma_by_spec.write(archive, [(1, 0), (2, 0), (1, 1), (1, 2)])
    pieces = [(number, offset, length) for number, offset, length, _ in Reader(io.BytesIO(data)).pieces()]
    assert pieces == [(2, 0, CLUSTER)]
