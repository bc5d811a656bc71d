"""Layers are shown as one file system with the guest's owners; what is written goes to the top layer alone."""

import contextlib
import os
from pathlib import Path

import pytest

from bastide.base.units import MIB
from bastide.host import filesystems, overlay
from bastide.host.overlay import Layer
from bastide.host.rootdir import RootDir

pytestmark = [pytest.mark.anyio, pytest.mark.system]

FIRST = 700000


def base(folder: Path) -> Path:
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hostname").write_text("base\n")
    (folder / "etc/gone").touch()
    (folder / "lib/deep").mkdir(parents=True)
    (folder / "lib/deep/file").write_text("deep")
    os.chown(folder / "etc/hostname", 5, 6)
    folder.chmod(0o751)
    return folder


@pytest.mark.parametrize("first", [0, FIRST])
async def test_what_is_written_lies_in_the_top_layer(tmp_path: Path, first: int) -> None:
    assert overlay.supported()
    lower, volume, target = base(tmp_path / "base"), tmp_path / "a,b:c", tmp_path / "target:1,2"
    volume.mkdir()
    target.mkdir()
    overlay.make_top(volume, lower)
    await overlay.mount_layers(volume, [Layer(lower)], target, first)
    try:
        entry = filesystems.mount_at(target)
        assert entry is not None
        assert overlay.mapped_to(entry.source) == first
        assert (target.stat().st_uid, target.stat().st_mode & 0o7777) == (first, 0o751)
        shown = (target / "etc/hostname").stat()
        assert (shown.st_uid, shown.st_gid) == (first + 5, first + 6)
        (target / "etc/hostname").write_text("guest\n")
        (target / "etc/gone").unlink()
        (target / "lib").rename(target / "lib2")
        with pytest.raises(OSError, match="too large") if first else contextlib.nullcontext():
            (target / "new").touch()
        with RootDir(target) as root:
            root.write("new", b"x", uid=7, gid=7)
    finally:
        await filesystems.unmount(target)
    assert filesystems.mounts_within(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a,b:c", "base", "target:1,2"]
    assert (lower / "etc/hostname").read_text() == "base\n"
    assert (lower / "etc/gone").exists()
    assert (volume / "upper/new").stat().st_uid == 7
    assert (volume / "upper/etc/hostname").read_text() == "guest\n"
    # The same again, to be read: as one layer above another.
    await overlay.mount_read_only([Layer(volume, overlay.UPPER), Layer(lower)], target)
    try:
        assert (target / "lib2/deep/file").read_text() == "deep"
        assert not (target / "etc/gone").exists()
        assert (target / "etc/hostname").stat().st_gid == 6
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").touch()
    finally:
        await filesystems.unmount(target)


async def test_layers_in_images_and_leftovers(tmp_path: Path) -> None:
    lower, target = base(tmp_path / "base"), tmp_path / "target"
    target.mkdir()
    content = tmp_path / "content"
    content.mkdir()
    overlay.make_top(content, lower)
    (content / "upper/etc").mkdir()
    (content / "upper/etc/hostname").write_text("middle\n")
    await filesystems.make_ext4(tmp_path / "middle.raw", 16 * MIB, content)
    await filesystems.make_ext4(tmp_path / "top.raw", 16 * MIB, base(tmp_path / "whole"))
    # As if a daemon had been killed in the middle.
    (tmp_path / "target.layers/0").mkdir(parents=True)
    await filesystems.mount_loop(tmp_path / "top.raw", tmp_path / "target.layers/0", read_only=True)
    volume = tmp_path / "volume"
    volume.mkdir()
    overlay.make_top(volume, lower)
    await overlay.mount_layers(volume, [Layer(tmp_path / "middle.raw", overlay.UPPER), Layer(lower)], target, FIRST)
    try:
        assert (target / "etc/hostname").read_text() == "middle\n"
        assert (target / "lib/deep/file").read_text() == "deep"
        assert len(filesystems.mounts_within(tmp_path)) == 1
    finally:
        await filesystems.unmount(target)
    assert filesystems.loop_devices(tmp_path / "middle.raw") == []
    await overlay.mount_read_only([Layer(tmp_path / "top.raw")], target)
    try:
        assert (target / "etc/hostname").read_text() == "base\n"
    finally:
        await filesystems.unmount(target)
    assert filesystems.mounts_within(tmp_path) == []


def test_only_overlays_of_ours_say_their_owners() -> None:
    assert overlay.mapped_to("layers-100000") == 100000
    for other in ("overlay", "layers-", "layers-x", "layers--1", ""):
        assert overlay.mapped_to(other) is None
