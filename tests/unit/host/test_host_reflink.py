"""Copies share blocks where the file system can, keep holes everywhere, and a frozen file system is thawed."""

import os
import threading
import time
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.base.units import MIB
from bastide.host import reflink
from framework.disposable import Disposable, mounted

pytestmark = pytest.mark.system


def sparse(path: Path) -> Path:
    """A file of 64 MiB with data at three places."""
    with path.open("wb") as file:
        for place in (0, 20 * MIB, 64 * MIB - 4096):
            file.seek(place)
            file.write(os.urandom(4096))
    return path


@pytest.mark.parametrize(("kind", "shares"), [("ext4", False), ("xfs", True), ("btrfs", True)])
def test_a_copy_has_every_byte_and_every_hole(kind: str, shares: bool, disposable: Disposable, tmp_path: Path) -> None:
    folder = disposable.on(kind) / tmp_path.name
    folder.mkdir()
    assert reflink.supported(folder) == shares
    assert list(folder.iterdir()) == []
    source, target = sparse(folder / "source"), folder / "target"
    seen: list[float] = []
    reflink.copy(source, target, seen.append)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < MIB
    assert target.stat().st_mode & 0o777 == 0o600
    assert shares or (seen == sorted(seen) and seen[-1] == 100)
    assert (reflink.own_bytes(target) == 0) == shares
    with target.open("r+b") as file:
        file.write(os.urandom(4096))
        file.flush()
        os.fsync(file.fileno())
    assert 4096 <= reflink.own_bytes(target) <= 256 * 1024
    with pytest.raises(HostFailure, match="File exists"):
        reflink.copy(source, target)
    (folder / "link").symlink_to(source)
    with pytest.raises(HostFailure):
        reflink.copy(folder / "link", folder / "other")
    assert not (folder / "other").exists()


def test_a_file_system_stands_still_and_goes_on(tmp_path: Path) -> None:
    written = threading.Event()

    def write(file: Path) -> None:
        file.write_bytes(b"x")
        written.set()

    def fail(place: Path, thread: threading.Thread) -> None:
        with reflink.frozen(place):
            thread.start()
            assert not written.wait(0.2)
            started = time.monotonic()
            with reflink.frozen(place):
                assert time.monotonic() - started < 1, "what stands still already is left alone"
            assert not written.is_set()
            raise ZeroDivisionError

    with mounted("ext4", tmp_path, 64 * MIB) as place:
        thread = threading.Thread(target=write, args=(place / "file",))
        with pytest.raises(ZeroDivisionError):
            fail(place, thread)
        assert written.wait(5), "it goes on whatever happens"
        thread.join()
        assert not reflink.thaw(place)


def test_a_copy_that_shares_nothing_keeps_to_its_limit(disposable: Disposable, tmp_path: Path) -> None:
    folder = disposable.on("ext4") / tmp_path.name
    folder.mkdir()
    source = folder / "source"
    source.write_bytes(os.urandom(MIB))
    began = time.monotonic()
    reflink.copy(source, folder / "target", rate=2 * MIB)
    assert time.monotonic() - began >= 0.45
    assert (folder / "target").read_bytes() == source.read_bytes()
