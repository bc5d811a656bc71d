"""Headers of disk images: what good ones say, that bad ones are refused, and that nothing but HostFailure comes out."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.base.units import GIB, MIB
from bastide.host import disk_headers
from bastide.host.disk_headers import Window
from bastide.host.disk_image import check, check_chain, detect, inspect
from framework.evil_images import EVIL, Evil, qcow2, qemu_img, vmdk

FORMATS = ("qcow2", "vmdk", "vdi", "vhdx", "vpc")
VARIANTS = [
    ("qcow2", []),
    ("qcow2", ["compat=0.10"]),
    ("qcow2", ["cluster_size=2M,extended_l2=on,compression_type=zstd"]),
    ("qcow2", ["preallocation=metadata"]),
    ("vmdk", ["subformat=monolithicSparse"]),
    ("vmdk", ["subformat=streamOptimized"]),
    ("vdi", []),
    ("vdi", ["static=on"]),
    ("vhdx", []),
    ("vpc", ["force_size=on"]),
]


def window(data: bytes) -> Window:
    return Window(len(data), lambda offset, size: data[offset : offset + size])


@pytest.mark.parametrize("size", [512, GIB + 512, 1500 * GIB])
@pytest.mark.parametrize(("form", "options"), VARIANTS)
def test_what_qemu_makes_is_understood(tmp_path: Path, form: str, options: list[str], size: int) -> None:
    if options in (["preallocation=metadata"], ["static=on"]):
        size = min(size, 64 * MIB)
    image = tmp_path / "image"
    extra = [word for option in options for word in ("-o", option)]
    qemu_img(tmp_path, "create", "-f", form, *extra, "image", str(size))
    assert detect(image) == form
    info = check(image, form)
    assert (info.format, info.virtual_size) == (form, size)
    assert check_chain(image, form) == info
    for other in {*FORMATS, "raw"} - {form}:
        with pytest.raises(HostFailure, match=f"claims to be {other}, but has the header of {form}"):
            check(image, other)


def test_a_converted_image_is_understood(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(3 * MIB))
    for form, options in (("qcow2", ["-c"]), ("vmdk", ["-o", "subformat=streamOptimized"]), ("vhdx", []), ("vdi", [])):
        qemu_img(tmp_path, "convert", "-f", "raw", "-O", form, *options, "data", form)
        assert check(tmp_path / form, form).virtual_size == 3 * MIB


@pytest.mark.parametrize("name", EVIL)
def test_what_leads_elsewhere_or_lies_is_refused(tmp_path: Path, name: str) -> None:
    evil: Evil = EVIL[name]
    canary = tmp_path / "canary"
    canary.write_bytes(bytes(4096))
    image = tmp_path / evil.name
    image.write_bytes(evil.make(tmp_path, canary, 1))
    form = "raw" if image.suffix in (".img", ".raw") else image.suffix[1:]
    with pytest.raises(HostFailure, match=evil.why):
        check(image, form)


def test_a_volume_stays_raw_whatever_its_guest_writes(tmp_path: Path) -> None:
    image = tmp_path / "vm-100-disk-0.raw"
    image.write_bytes(qcow2(backing=b"/etc/shadow"))
    assert check_chain(image, "raw").virtual_size == 4 * 65536
    with pytest.raises(HostFailure, match="backing file"):
        check_chain(image, "qcow2")
    asked: list[str] = []
    assert check_chain(image, "qcow2", lambda backing: not asked.append(backing)).backing == "/etc/shadow"  # type: ignore[func-returns-value]
    assert asked == ["/etc/shadow"]


def test_an_allowed_backing_file_allows_no_data_file(tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.write_bytes(qcow2(backing=b"ours", incompatible=0x04))
    with pytest.raises(HostFailure):
        check_chain(image, "qcow2", lambda _backing: True)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "image"
    if kind == "link":
        (tmp_path / "other").write_bytes(qcow2())
        image.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(image)
    elif kind == "folder":
        image.mkdir()
    with pytest.raises(HostFailure):
        inspect(image, "qcow2")


def test_compressed_and_encrypted_images_are_named(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\xfd7zXZ\0" + bytes(1000))
    with pytest.raises(HostFailure, match="compressed with xz"):
        check(image, "raw")
    encrypted = bytearray(qcow2())
    encrypted[35] = 2
    image.write_bytes(encrypted)
    with pytest.raises(HostFailure, match="encrypted"):
        check(image, "qcow2")


def test_a_parent_hint_counts_where_qemu_reads_it(tmp_path: Path) -> None:
    """QEMU reads the second sector, wherever the header says that the descriptor is."""
    data = bytearray(vmdk('parentFileNameHint="/etc/shadow"'))
    data[28:36] = (40).to_bytes(8, "little")
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(HostFailure, match="parent"):
        check(tmp_path / "x", "vmdk")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    made = {}
    for form in FORMATS:
        qemu_img(folder, "create", "-f", form, form, "64M")
        made[form] = (folder / form).read_bytes()[: 4 * MIB]
    qemu_img(folder, "create", "-f", "vmdk", "-o", "subformat=streamOptimized", "stream", "64M")
    return {**made, "stream": (folder / "stream").read_bytes()}


_PLACES = st.one_of(st.integers(0, 1024), st.integers(192 * 1024, 200 * 1024), st.integers(1 << 20, (1 << 20) + 65700))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*FORMATS, "stream"]),
    changes=st.lists(st.tuples(_PLACES, st.binary(min_size=1, max_size=16)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 5000), st.integers(0, 4 * MIB)),
)
def test_an_altered_header_is_read_or_refused(
    good: dict[str, bytes], name: str, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(good[name])
    for at, piece in changes:
        if at + len(piece) <= len(data):
            data[at : at + len(piece)] = piece
    changed = window(bytes(data[:cut]))
    with contextlib.suppress(HostFailure):
        info = disk_headers.read(changed, "vmdk" if name == "stream" else name)
        assert 0 <= info.virtual_size <= disk_headers.MAX_VIRTUAL_SIZE
    assert disk_headers.detect(changed) in {*FORMATS, None, *(form for _, form in disk_headers._MAGIC)}


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=2048), form=st.sampled_from([*FORMATS, "raw", "qed", "", "../raw"]))
def test_noise_is_refused(data: bytes, form: str) -> None:
    disk_headers.detect(window(data))
    if form == "raw":
        assert disk_headers.read(window(data), form).virtual_size == len(data)
    else:
        with pytest.raises(HostFailure):
            disk_headers.read(window(data), form)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(0, 1 << 64 - 1),
    l1_size=st.integers(0, (1 << 32) - 1),
    incompatible=st.integers(0, 255),
    backing=st.binary(max_size=1100),
    extensions=st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=64)), max_size=5),
)
def test_no_reference_of_a_qcow2_is_missed(
    size: int, l1_size: int, incompatible: int, backing: bytes, extensions: list[tuple[int, bytes]]
) -> None:
    image = window(qcow2(size=size, l1_size=l1_size, incompatible=incompatible, backing=backing, extensions=extensions))
    try:
        info = disk_headers.read(image, "qcow2")
    except HostFailure:
        return
    kinds = [kind for kind, _ in extensions]
    visible = kinds[: kinds.index(0)] if 0 in kinds else kinds
    assert (info.backing is not None) == bool(backing)
    assert info.data_file == (bool(incompatible & 4) or 0x44415441 in visible)
