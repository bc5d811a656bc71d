"""Empty overlays as data: what qemu-img makes, byte by byte but for the names of features, and it finds no fault."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.base.units import GIB, KIB, MIB
from bastide.host import disk_image, qemu_img
from bastide.host.qcow2 import empty_overlay
from bastide.host.run import run

_FEATURE_NAMES = 0x6803F857


def _written(path: Path, name: str, form: str, size: int) -> bytes:
    with path.open("wb") as file:
        for offset, data in empty_overlay(name, form, size):
            file.seek(offset)
            file.write(data)
    return path.read_bytes()


def _without_feature_names(image: bytes) -> bytes:
    """The same image as it would be without the header extension that only tells people what bits are called."""
    start = image.index(_FEATURE_NAMES.to_bytes(4))
    length = 8 + int.from_bytes(image[start + 4 : start + 8])
    name = int.from_bytes(image[8:16])
    head = image[:8] + (name - length).to_bytes(8) + image[16:start] + image[start + length : 65536] + bytes(length)
    return head + image[65536:]


@pytest.mark.parametrize("size", [512, 513, MIB, GIB, 4 * GIB + 512, 5 * 1024 * GIB])
@pytest.mark.parametrize(("name", "form"), [("base.raw", "raw"), ("../100/base-100-disk-0.qcow2", "qcow2")])
def test_it_is_what_qemu_img_makes(tmp_path: Path, name: str, form: str, size: int) -> None:
    theirs = tmp_path / "theirs"
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", form, theirs, str(size)], check=True
    )
    assert _written(tmp_path / "ours", name, form, size) == _without_feature_names(theirs.read_bytes())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40 * 1024 * GIB // KIB), st.text("abc/.-ä", min_size=1, max_size=300))
def test_qemu_img_finds_no_fault(tmp_path_factory: pytest.TempPathFactory, kib: int, name: str) -> None:
    image = tmp_path_factory.mktemp("overlay") / "image"
    _written(image, name, "raw", kib * KIB)
    subprocess.run(["qemu-img", "check", "-q", f"json:{json.dumps(_alone(image))}"], check=True)


def _alone(image: Path) -> dict[str, object]:
    return {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(image)}}


@pytest.mark.anyio
async def test_what_it_builds_on_shows_through(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"base" * 1024)
    await qemu_img.create_overlay(tmp_path / "top.qcow2", "base.raw", "raw", MIB)
    with disk_image.opened(tmp_path / "top.qcow2") as opened:
        info = disk_image.check_chain(opened, "qcow2", lambda link: link == "base.raw")
    assert info.virtual_size == MIB
    await run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"{tmp_path}/top.qcow2", f"{tmp_path}/shown"])
    assert (tmp_path / "shown").read_bytes() == (b"base" * 1024).ljust(MIB, b"\0")


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "size"), [("", MIB), ("x" * 1024, MIB), ("base.raw", 1 << 62)])
async def test_what_no_image_can_say_is_refused_and_leaves_nothing(tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(HostFailure):
        await qemu_img.create_overlay(tmp_path / "top.qcow2", name, "raw", size)
    assert list(tmp_path.iterdir()) == []
