"""Unpacking a compressed file beside itself, within bounds."""

import bz2
import gzip
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.units import MIB
from bastide.host.unpacked import compressed, unpack_file

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox is made by root")

DATA = b"disk" * 300_000


def _packed(kind: str) -> bytes:
    if kind == "zst":
        return subprocess.run(["zstd", "-q", "-c"], input=DATA, capture_output=True, check=True).stdout
    return {"xz": lzma.compress, "gz": gzip.compress, "bz2": bz2.compress}[kind](DATA)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["xz", "gz", "bz2", "zst"])
async def test_what_is_compressed_is_unpacked_within_its_limit(tmp_path: Path, kind: str) -> None:
    source, target = tmp_path / "named-otherwise", tmp_path / "disk"
    source.write_bytes(_packed(kind))
    assert compressed(source)
    await unpack_file(source, target, 2 * MIB)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o077 == 0
    target.unlink()
    with pytest.raises(NoSpace, match="more than"):
        await unpack_file(source, target, 64 * 1024)
    assert not target.exists()


@pytest.mark.anyio
async def test_what_is_broken_or_not_compressed_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    for data in (_packed("xz")[:100], _packed("gz")[:100], b"plain", b""):
        source = tmp_path / "source"
        source.write_bytes(data)
        with pytest.raises(HostFailure):
            await unpack_file(source, target, MIB)
        assert not target.exists()
    assert not compressed(source)
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    with pytest.raises(HostFailure):
        compressed(link)
    target.write_bytes(b"mine")
    source.write_bytes(_packed("gz"))
    with pytest.raises(HostFailure):
        await unpack_file(source, target, 2 * MIB)
    assert target.read_bytes() == b"mine"
