"""Archives: recognized by content, streamed whole or refused with the cause, and never more than they may hold."""

import asyncio
import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace
from bastide.host.archive import Limits, check_tar, compression, stream_archive
from bastide.host.probing import check_file
from bastide.model.storage import Content
from framework.evil_images import qcow2, vmdk


def tar_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zst": zstd,
    "xz": lzma.compress,
    "gz": gzip.compress,
    "bz2": bz2.compress,
}


def unpack(target: Path) -> list[str]:
    target.mkdir(exist_ok=True)
    return ["tar", "-x", "-f", "-", "-C", str(target)]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", COMPRESS)
async def test_every_compression_is_known_by_its_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "-rf; $(x) misleading.tar.gz"
    path.write_bytes(COMPRESS[kind](tar_bytes({"etc/hostname": b"web\n", "big": bytes(3_000_000)})))
    assert compression(path) == kind
    await check_tar(path)
    await stream_archive(path, unpack(tmp_path / "root"))
    assert (tmp_path / "root/etc/hostname").read_bytes() == b"web\n"
    assert (tmp_path / "root/big").stat().st_size == 3_000_000


@pytest.mark.anyio
async def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    whole = gzip.compress(tar_bytes({"a": bytes(range(256)) * 4000}), 0)
    path, root = tmp_path / "a.tar.gz", tmp_path / "root"
    path.write_bytes(b"hello")
    for attempt in (stream_archive(path, unpack(root)), check_tar(path)):
        with pytest.raises(HostFailure, match="not compressed"):
            await attempt
    path.write_bytes(whole[:500_000])
    with pytest.raises(HostFailure, match=r"a\.tar\.gz.*(cannot be read|truncated).*"):
        await stream_archive(path, unpack(root))
    path.write_bytes(whole[:200_000] + b"\xff" * 1000 + whole[201_000:])
    with pytest.raises(HostFailure, match=r"a\.tar\.gz"):
        await stream_archive(path, unpack(root))
    path.write_bytes(gzip.compress(b"not a tar archive" * 1000))
    with pytest.raises(HostFailure, match="not a tar archive"):
        await check_tar(path)
    lines: list[str] = []
    path.write_bytes(whole)
    with pytest.raises(HostFailure, match="it is Monday"):
        await stream_archive(path, ["sh", "-c", "echo it is Monday >&2; exit 3"], log=lines.append)
    assert lines == ["it is Monday"]
    with pytest.raises(NoSpace):
        await stream_archive(path, ["sh", "-c", "echo tar: a: No space left on device >&2; exit 2"])


@pytest.mark.anyio
async def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.zst"
    path.write_bytes(zstd(bytes(64 << 20)) * 64)  # frames add up: 4 GiB of zeros
    assert path.stat().st_size < 1_000_000
    started = time.monotonic()
    with pytest.raises(HostFailure, match="more than the 64 MiB"):
        await stream_archive(path, ["sh", "-c", "cat > /dev/null"], Limits(size=64 << 20))
    assert time.monotonic() - started < 10
    assert Limits().allowed(1_000_000) == 1 << 30


@pytest.mark.anyio
async def test_cancelling_kills_both(tmp_path: Path) -> None:
    path, marker = tmp_path / "a.tar.zst", tmp_path / "pid"
    path.write_bytes(zstd(bytes(50_000_000)))
    script = f"echo $$ > {marker}; exec sleep 60"
    work = asyncio.create_task(stream_archive(path, ["sh", "-c", script]))
    while not marker.exists() or not marker.read_text().strip():
        await asyncio.sleep(0.02)
    pid = int(marker.read_text())
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.anyio
async def test_a_link_in_the_archives_place_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "real.tar.gz"
    real.write_bytes(gzip.compress(tar_bytes({"a": b"b"})))
    (tmp_path / "link.tar.gz").symlink_to(real)
    with pytest.raises(HostFailure, match="could not open"):
        await stream_archive(tmp_path / "link.tar.gz", unpack(tmp_path / "root"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "data", "fine"),
    [
        ("a.iso", bytes(32768) + b"\x01CD001\x01", True),
        ("a.iso", bytes(40000), False),
        ("a.iso", b"", False),
        ("a.qcow2", qcow2(), True),
        ("a.qcow2", qcow2(backing=b"/etc/shadow"), False),
        ("a.qcow2", qcow2(incompatible=4), False),
        ("a.qcow2", b"QFI\xfb", False),
        ("a.raw", bytes(512), True),
        ("a.raw", qcow2(backing=b"/etc/shadow"), False),
        ("a.vmdk", b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n', False),
        ("a.vmdk", vmdk('createType="monolithicSparse"'), True),
        ("a.vmdk", b"KDMV" + bytes(508), False),
        ("a.img", bytes(512), True),
        ("a.img", qcow2(), False),
        ("a.vdi", bytes(512), False),
        ("a.vhdx", bytes(512), False),
        ("b.img", bytes(512), True),
        ("b.img", qcow2(), False),
        ("b.iso", qcow2()[:32768] + b"\x01CD001\x01", False),
    ],
)
async def test_files_are_what_their_names_say(name: str, data: bytes, fine: bool, tmp_path: Path) -> None:
    (tmp_path / "spooled").write_bytes(data)
    content: Content = "iso" if name.endswith(".iso") or name.startswith("b.") else "import"
    if fine:
        await check_file(tmp_path / "spooled", content, name)
    else:
        with pytest.raises(HostFailure):
            await check_file(tmp_path / "spooled", content, name)
