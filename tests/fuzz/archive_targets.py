"""Fuzzed: archives, images and their indexes, and the small files that lie beside volumes."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable

from bastide.backup import tar_members, vma, vma_stream
from bastide.base.errors import HostFailure
from bastide.host import borg, borg_tar, disk_headers
from bastide.operations import simplestreams
from bastide.storage import borg_files
from fuzz.registry import split, target, text

_FORMATS = ("qcow2", "vmdk", "vdi", "vhdx", "vpc", "raw", "qed")


@target("vma-header", HostFailure)
def vma_header(data: bytes) -> None:
    """Headers of VMA archives, with the checksum that they claim."""
    found = vma.read_header(io.BytesIO(data))
    assert vma.parse_header(vma.render_header(found)) == found


def _summed(data: bytes, at: int, length: int) -> bytes:
    """A piece of an archive with the right checksum: what lies behind that check is reached."""
    whole = bytearray(data.ljust(length, b"\0")[:length])
    whole[at : at + 16] = bytes(16)
    whole[at : at + 16] = hashlib.md5(whole, usedforsecurity=False).digest()
    return bytes(whole)


@target("vma-header-summed", HostFailure)
def vma_header_summed(data: bytes) -> None:
    """The same with a right magic, version, length and checksum."""
    size = max(12288 + 512, -(-len(data) // 512) * 512)
    start = b"VMA\0\0\0\0\1" + data[8:56].ljust(48, b"\0") + size.to_bytes(4)
    found = vma.parse_header(_summed(start + data[60:], 32, size))
    assert vma.parse_header(vma.render_header(found)) == found


@target("vma-extent", HostFailure)
def vma_extent(data: bytes) -> None:
    """Headers of extents, with a right checksum."""
    vma.parse_extent(_summed(data, 24, vma.EXTENT_HEADER), data[8:24].ljust(16, b"\0"))


_HEADER = vma.render_header(
    vma.Header(bytes(16), 1, {"qemu-server.conf": b"x"}, {1: vma.Device("drive-scsi0", 1 << 20)})
)


@target("vma-stream", HostFailure)
def vma_pieces(data: bytes) -> None:
    """What follows a good header: the extents, each with a right checksum when the first byte is odd."""
    which, rest = split(data)
    if which % 2:
        rest = _summed(rest[: vma.EXTENT_HEADER], 24, vma.EXTENT_HEADER) + rest[vma.EXTENT_HEADER :]
    end = 1 << 20
    for number, begin, length, _ in vma_stream.Reader(io.BytesIO(_HEADER + rest)).pieces():
        assert number == 1
        assert 0 <= begin < begin + length <= end


@target("tar-members", tarfile.TarError, EOFError, OSError, ValueError, SystemExit)
def tar_listing(data: bytes) -> None:
    """Members of a backup, as its helper lists them: no name leads up or begins with a slash."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|", errors="surrogateescape") as archive:
        members = tar_members._up_to_links(tar_members._members(archive), "")
        for entry in tar_members.listing(members, ""):
            assert "/" not in str(entry["name"])
            assert entry["name"] != ".."
            json.dumps(entry)


@target("borg-tar", ValueError)
def borg_stream(data: bytes) -> None:
    """A tar stream of borg's, into which attributes are merged."""
    borg_tar.merge(io.BytesIO(data), io.BytesIO(), {b"etc": {b"SCHILY.xattr.user.a": b"b"}})


@target("borg-dump", ValueError)
def borg_dump(data: bytes) -> None:
    """What borg tells of an archive's items."""
    borg_tar.attributes(borg_tar.items_of(text(data).splitlines(keepends=True)))


@target("borg-listing", HostFailure)
def borg_listing(data: bytes) -> None:
    """What borg lists of a folder."""
    borg._listed(text(data), "root/etc")


@target("borg-messages")
def borg_messages(data: bytes) -> None:
    """What borg says on standard error."""
    told = text(data)
    borg._warnings(told)
    entries = list(borg._entries(told))
    assert isinstance(borg._last(entries, told), str)


@target("borg-sizes", HostFailure)
def borg_sizes(data: bytes) -> None:
    """The sizes of a VM's disks in a borg archive."""
    assert all(0 < size < 1 << 60 for size in borg_files.parse_sizes(data).values())


def _image(form: str) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        window = disk_headers.Window(len(data), lambda offset, size: data[offset : offset + size])
        disk_headers.detect(window)
        assert disk_headers.read(window, form).virtual_size >= 0

    return run


for _form in _FORMATS:
    target(f"image-{_form}", HostFailure)(_image(_form))


@target("image-snapshots", HostFailure)
def image_snapshots(data: bytes) -> None:
    """The table of snapshots of a qcow2 image."""
    disk_headers.snapshots(disk_headers.Window(len(data), lambda offset, size: data[offset : offset + size]))


@target("image-index", HostFailure)
def image_index(data: bytes) -> None:
    """The index of a server of images: no path of it leads anywhere but below that server."""
    simplestreams.product_paths(data)
    for kind in ("lxc", "qemu"):
        for image in simplestreams.images(data, "https://images.test", kind):
            assert str(image.url).startswith("https://images.test/")
