"""Images are made, grown and converted by a qemu-img that reaches nothing but the files it was handed."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace, NotSupported, RunError
from bastide.base.units import GIB, MIB
from bastide.host import qemu_img
from bastide.host.disk_image import inspect
from bastide.host.run import run
from bastide.host.sandbox import Bounds, sandboxed
from framework.evil_images import qcow2

pytestmark = [pytest.mark.anyio, pytest.mark.system]


def source(tmp_path: Path) -> Path:
    """A raw image with a hole in the middle."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(32 * MIB)
        file.write(os.urandom(MIB))
    return path


@pytest.mark.parametrize("form", ["qcow2", "vmdk", "vdi", "vhdx", "raw"])
async def test_a_conversion_brings_every_byte_there_and_back(tmp_path: Path, form: str) -> None:
    given, seen = source(tmp_path), []
    await qemu_img.convert(given, "raw", tmp_path / "there", form, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert inspect(tmp_path / "there", form).virtual_size == 33 * MIB
    await qemu_img.convert(tmp_path / "there", form, tmp_path / "back", "raw")
    assert (tmp_path / "back").read_bytes() == given.read_bytes()
    found = (tmp_path / "back").stat()
    assert found.st_blocks * 512 < 4 * MIB, "holes stay holes"
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 0)


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk"])
async def test_images_are_made_and_grow(tmp_path: Path, form: str, preallocation: qemu_img.Preallocation) -> None:
    image = tmp_path / "image"
    await qemu_img.create(image, form, 8 * MIB, preallocation)
    assert inspect(image, form).virtual_size == 8 * MIB
    full = preallocation in ("falloc", "full") and form != "vmdk"
    assert (image.stat().st_blocks * 512 >= 8 * MIB) == full
    if form == "vmdk":
        with pytest.raises(NotSupported):
            await qemu_img.resize(image, form, 16 * MIB)
        return
    await qemu_img.resize(image, form, 16 * MIB)
    assert inspect(image, form).virtual_size == 16 * MIB
    with pytest.raises(HostFailure, match="shrink"):
        await qemu_img.resize(image, form, 8 * MIB)
    with pytest.raises(HostFailure, match="File exists"):
        await qemu_img.create(image, form, MIB)
    assert inspect(image, form).virtual_size == 16 * MIB


async def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.qcow2"
    data = bytearray(qcow2())
    data[3 * 65536 : 3 * 65536 + 8] = ((1 << 63) | 512).to_bytes(8)  # its second-level table lies askew
    broken.write_bytes(data)
    with pytest.raises(RunError):
        await qemu_img.convert(broken, "qcow2", tmp_path / "target", "raw")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.qcow2"]
    with pytest.raises(HostFailure):
        await qemu_img.create(tmp_path / "target", "qcow2", 1 << 62)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.qcow2"]


async def test_cancelling_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "source"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(8 * MIB))
    started = asyncio.Event()
    task = asyncio.create_task(
        qemu_img.convert(path, "raw", tmp_path / "target", "qcow2", progress=lambda _percent: started.set())
    )
    await asyncio.wait_for(started.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


async def test_a_full_disk_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    given = tmp_path / "source"
    given.write_bytes(os.urandom(12 * MIB))
    await run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)])
    try:
        with pytest.raises(NoSpace):
            await qemu_img.convert(given, "raw", small / "target", "qcow2")
        with pytest.raises(NoSpace):
            await qemu_img.create(small / "target", "raw", 16 * MIB, "falloc")
        assert list(small.iterdir()) == []
    finally:
        await run(["umount", str(small)])


async def test_the_tool_reaches_nothing_else(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    given = tmp_path / "given"
    given.write_text("mine")
    descriptor = os.open(given, os.O_RDONLY)
    script = f"""
        cat /0; cat {canary}; cat /etc/passwd; cat /proc/1/status; echo x >/0; echo x >/usr/x; touch /new
        id -u; ls /sys /proc /var /etc /home /root; ls /dev/fd/; echo ended
    """
    try:
        done = await run(sandboxed(["/bin/sh", "-c", script], [(descriptor, False)]), pass_fds=[descriptor])
    finally:
        os.close(descriptor)
    assert done.text.split() == ["mine65533", "ended"]
    assert given.read_text() == "mine"
    bounds = Bounds(length=MIB, seconds=1)
    done = await run(sandboxed(["/bin/sh", "-c", "while :; do :; done"], bounds=bounds), check=False)
    assert done.code < 0


def test_the_tool_does_not_begin_when_its_daemon_has_ended() -> None:
    """kill -9 may come while the helper still starts: then nobody is left whose end it could wait for."""
    argv = sandboxed(["/bin/sh", "-c", "echo begun"])
    orphan = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", orphan, *argv], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "the daemon has ended" in done.stderr


async def test_a_backing_file_is_not_reached_even_unchecked(tmp_path: Path) -> None:
    """The sandbox holds when a header's check would not."""
    canary = tmp_path / "canary"
    canary.write_bytes(b"secret" * 1000)
    given = tmp_path / "given"
    given.write_bytes(qcow2(backing=str(canary).encode(), extensions=[(0xE2792ACA, b"raw")]))
    descriptor = os.open(given, os.O_RDONLY)
    try:
        argv = ["/usr/bin/qemu-img", "info", "-f", "qcow2", "--backing-chain", "/0"]
        done = await run(sandboxed(argv, [(descriptor, False)]), pass_fds=[descriptor], check=False)
    finally:
        os.close(descriptor)
    assert done.code != 0
    assert "No such file" in done.stderr


async def test_a_size_beyond_everything_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(HostFailure):
        await qemu_img.create(tmp_path / "x", "raw", 1 << 62)
    await qemu_img.create(tmp_path / "y", "qcow2", 1024 * GIB)
    assert (tmp_path / "y").stat().st_blocks * 512 < MIB
    assert not (tmp_path / "x").exists()


async def test_a_host_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_img, "_PROGRAM", "/usr/bin/no-such-program")
    with pytest.raises(NotSupported, match="not installed"):
        await qemu_img.create(tmp_path / "x", "qcow2", MIB)
    assert list(tmp_path.iterdir()) == []
