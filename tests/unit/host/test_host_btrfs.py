"""Subvolumes and their snapshots."""

import os
import subprocess
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.base.units import MIB
from bastide.host import btrfs
from framework.disposable import Disposable, mounted

pytestmark = pytest.mark.system


def test_a_subvolume_is_made_copied_at_once_and_removed(disposable: Disposable, tmp_path: Path) -> None:
    folder = disposable.on("btrfs") / tmp_path.name
    folder.mkdir()
    assert btrfs.is_btrfs(folder)
    assert not btrfs.is_btrfs(tmp_path)
    assert not btrfs.is_subvolume(folder)
    one, other = folder / "one", folder / "other"
    btrfs.create(one)
    assert btrfs.is_subvolume(one)
    assert one.stat().st_mode & 0o7777 == 0o755
    (one / "file").write_text("before")
    btrfs.snapshot(one, other, read_only=True)
    (one / "file").write_text("after")
    assert (other / "file").read_text() == "before"
    with pytest.raises(OSError, match="Read-only"):
        (other / "file").write_text("x")
    btrfs.make_writable(other)
    (other / "file").write_text("x")
    with pytest.raises(HostFailure, match="exists"):
        btrfs.create(one)
    btrfs.create(other / "nested")
    assert not btrfs.delete(other), "it holds another"
    assert btrfs.delete(other / "nested")
    for path in (one, other, folder / "missing"):
        assert btrfs.delete(path)
        assert not path.exists()
    (folder / "plain").mkdir()
    assert not btrfs.delete(folder / "plain")
    assert (folder / "plain").exists()


def test_quotas_limit_and_count(tmp_path: Path) -> None:
    with mounted("btrfs", tmp_path, 300 * MIB) as place:
        assert btrfs.quotas(place) is None
        subprocess.run(["btrfs", "quota", "enable", str(place)], check=True)
        groups = btrfs.quotas(place)
        assert groups is not None
        btrfs.create(place / "one")
        btrfs.set_limit(place / "one", 8 * MIB)
        with pytest.raises(OSError, match="Disk quota exceeded"):
            (place / "one/big").write_bytes(os.urandom(16 * MIB))
        btrfs.set_limit(place / "one", 0)
        (place / "one/big").write_bytes(os.urandom(16 * MIB))
        btrfs.snapshot(place / "one", place / "two")
        subprocess.run(["btrfs", "filesystem", "sync", str(place)], check=True)
        counted = btrfs.used(place / "two", groups)
        assert counted is not None
        assert counted[0] >= 16 * MIB
        assert counted[1] < MIB


def test_files_that_are_written_in_place(disposable: Disposable, tmp_path: Path) -> None:
    folder = disposable.on("btrfs") / tmp_path.name
    folder.mkdir()
    btrfs.forgo_copies(folder)
    (folder / "file").write_bytes(bytes(4096))
    told = subprocess.run(["lsattr", str(folder / "file")], check=True, capture_output=True, text=True).stdout
    assert "C" in told.split()[0]
