"""Files beside volumes: what a killed daemon left of writing one goes, and nothing else does."""

import os
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from bastide.model.storage import StorageConfig
from bastide.storage.dir import DirStorage

pytestmark = pytest.mark.anyio

GONE = (
    "images/100/.vm-100-disk-0.raw.size.1.tmp",
    "images/100/.vm-100-disk-0.raw.base.1.tmp",
    "images/100/vm-100-disk-0.subvol.snapshots/.one.size.1.tmp",
    "template/cache/.a.tar.gz.notes.1.tmp",
)
KEPT = (
    f"images/100/.vm-100-disk-0.raw.size.{os.getpid()}.tmp",
    "images/100/.vm-100-disk-0.raw.1.tmp",
    "images/100/vm-100-disk-0.raw.size",
    "images/100/vm-100-disk-0.subvol/.x.size.1.tmp",
    "images/100/vm-100-disk-0.subvol.snapshots/one/.x.size.1.tmp",
)


def storage(tmp_path: Path, **values: object) -> DirStorage:
    config = {"storage": "s1", "type": "dir", "path": str(tmp_path / "disk"), "content": "rootdir,images,vztmpl"}
    return DirStorage(StorageConfig.parse({**config, **values}), Layout(tmp_path / "host"))


def strew(tmp_path: Path) -> None:
    for name in (*GONE, *KEPT):
        path = tmp_path / "disk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def left(tmp_path: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (tmp_path / "disk" / name).exists()]


async def test_what_was_cut_short_goes(tmp_path: Path) -> None:
    strew(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".x.size.1.tmp").touch()
    (tmp_path / "disk/images/200").symlink_to(outside)
    await storage(tmp_path).prepare()
    assert left(tmp_path, GONE) == []
    assert left(tmp_path, KEPT) == [*KEPT]
    assert (outside / ".x.size.1.tmp").exists()


async def test_on_a_shared_storage_others_are_left_alone(tmp_path: Path) -> None:
    strew(tmp_path)
    await storage(tmp_path, shared=1).prepare()
    assert left(tmp_path, GONE) == [*GONE]


async def test_what_lay_beside_a_backup_goes_after_it(tmp_path: Path) -> None:
    dump = tmp_path / "disk/dump"
    dump.mkdir(parents=True)
    lost, there = (f"vzdump-lxc-100-2026_01_0{day}-01_00_00.tar.zst" for day in (1, 2))
    gone = [f"{lost}.notes", f"{lost}.protected", f"{lost}.sha256"]
    kept = [
        there,
        f"{there}.notes",
        f"{there}.sha256",
        f"{lost}.size",
        "mine.notes",
        "vzdump-lxc-100-old.tar.zst.notes",
    ]
    for name in (*gone, *kept):
        (dump / name).touch()
    await storage(tmp_path, content="rootdir,images,vztmpl").prepare()
    assert len(list(dump.iterdir())) == len(gone) + len(kept)
    await storage(tmp_path, content="backup").prepare()
    assert {path.name for path in dump.iterdir()} == set(kept)
