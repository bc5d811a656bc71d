"""File trees from process to process: counted, slowed down, and failing with the cause."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace, NotSupported
from bastide.host import trees
from bastide.host.trees import copy_tree

pytestmark = pytest.mark.anyio


def _tar(folder: Path, target: Path) -> tuple[list[str], list[str]]:
    return ["tar", "-cf", "-", "-C", str(folder), "."], ["tar", "-xf", "-", "-C", str(target)]


async def test_a_tree_arrives(tmp_path: Path) -> None:
    source, target, seen = tmp_path / "a", tmp_path / "b", []
    for folder in (source, target):
        folder.mkdir()
    (source / "file").write_bytes(b"x" * 3_000_000)
    total = await copy_tree(*_tar(source, target), progress=seen.append)
    assert (target / "file").read_bytes() == (source / "file").read_bytes()
    assert total > 3_000_000
    assert seen[-1] == total


async def test_it_goes_no_faster_than_the_limit() -> None:
    began = time.monotonic()
    assert await copy_tree(["head", "-c", "200000", "/dev/zero"], ["cat"], limit=400_000) == 200_000
    assert time.monotonic() - began > 0.4


@pytest.mark.parametrize(
    ("pack", "unpack", "error", "words"),
    [
        (["sh", "-c", "echo no >&2; exit 3"], ["cat"], HostFailure, "could not be read: no"),
        (["cat", "/dev/zero"], ["sh", "-c", "echo worse >&2; exit 3"], HostFailure, "could not be written: worse"),
        (["cat", "/dev/zero"], ["sh", "-c", "echo No space left on device >&2; exit 2"], NoSpace, "full"),
        (["cat", "/dev/zero"], ["/nowhere"], NotSupported, "not installed"),
    ],
)
async def test_what_fails_is_named(pack: list[str], unpack: list[str], error: type[HostFailure], words: str) -> None:
    with pytest.raises(error, match=words):
        await copy_tree(pack, unpack)


async def test_cancelling_ends_both(tmp_path: Path) -> None:
    marks = [tmp_path / "first", tmp_path / "second"]
    pack = ["sh", "-c", f'echo $$ > "{marks[0]}"; exec cat /dev/zero']
    unpack = ["sh", "-c", f'echo $$ > "{marks[1]}"; exec cat']
    copying = asyncio.create_task(copy_tree(pack, unpack, limit=10_000))
    async with asyncio.timeout(20):
        while not all(mark.exists() and mark.read_text() for mark in marks):
            await asyncio.sleep(0.01)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert not any(Path(f"/proc/{mark.read_text().strip()}").exists() for mark in marks)


@pytest.mark.system
async def test_a_folder_is_copied_with_all_that_its_files_have(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    target.mkdir()
    (source / "inner/file").write_bytes(os.urandom(1 << 20))
    os.chown(source / "inner/file", 123456, 7)
    (source / "inner/file").chmod(0o4711)
    os.setxattr(source / "inner/file", "trusted.mark", b"kept")
    os.link(source / "inner/file", source / "twin")
    (source / "link").symlink_to("/nowhere")
    os.mkfifo(source / "pipe", 0o600)
    source.chmod(0o751)
    began = time.monotonic()
    await trees.copy_folder(source, target, 2 << 20)
    assert time.monotonic() - began >= 0.4
    found = (target / "twin").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777, found.st_nlink) == (123456, 7, 0o4711, 2)
    assert (target / "inner/file").read_bytes() == (source / "inner/file").read_bytes()
    assert os.getxattr(target / "inner/file", "trusted.mark") == b"kept"
    assert os.readlink(target / "link") == "/nowhere"
    assert (target / "pipe").is_fifo()
    assert target.stat().st_mode & 0o7777 == 0o751
