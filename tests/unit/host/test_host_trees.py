"""File trees from process to process: counted, slowed down, and failing with the cause."""

import asyncio
import time
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace, NotSupported
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
