"""What every method of a storage of block devices runs, against golden files.

`GOLDEN=write` writes them anew.
"""

import os
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bastide.host import block_ext4, filesystems, lvm, zfs
from bastide.host.filesystems import MountEntry
from framework import block_storages
from framework.fake_rbd import FakeRbd
from framework.fake_tools import FakeLvm, FakeTools
from framework.fake_zfs import FakeZfs

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "storage"
GIB = 1024**3
KEY = "0123456789abcdef"
CASES: dict[str, tuple[Callable[..., Any], type[FakeTools], dict[str, Any]]] = {
    "lvm": (block_storages.lvm, FakeLvm, {}),
    "lvm-saferemove": (
        block_storages.lvm,
        FakeLvm,
        {"saferemove": 1, "saferemove-stepsize": 16},
    ),
    "lvmthin": (block_storages.lvmthin, FakeLvm, {}),
    "zfspool": (block_storages.zfspool, FakeZfs, {"blocksize": "64k", "sparse": 1}),
    "zfspool-thick": (block_storages.zfspool, FakeZfs, {}),
    "rbd": (block_storages.rbd, FakeRbd, {"data-pool": "data", "monhost": "192.0.2.1 192.0.2.2", "username": "pve"}),
}
_TOKEN = re.compile(r"(bastide-(?:new|swap))-[0-9a-f]{8}-[0-9a-f]{8}(-[0-9a-f]{8})?")
_PASSING = re.compile(r"/\.[0-9a-f]{8}-[0-9a-f]{8}\b")
_OTHER = re.compile(r"(del-[a-z0-9-]+?|__copy)-[0-9a-f]{8}\b")


@pytest.fixture
def storage_and_tools(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    make, kind, keys = CASES[request.param]
    tools: Any = kind(tmp_path, dry=True)

    def mount_at(target: Path) -> MountEntry | None:
        given = [line.split("  ") for line in tools.record]
        last = [words[0] for words in given if words[0] in ("mount", "umount") and words[-1] == str(target)]
        return MountEntry(target, "x", "ext4", "0:1", frozenset()) if last[-1:] == ["mount"] else None

    monkeypatch.setattr(filesystems, "mount_at", mount_at)
    monkeypatch.setattr(filesystems, "is_settled", lambda _device: True)
    monkeypatch.setattr(filesystems, "space", lambda _folder: (GIB, GIB // 2, GIB // 2))
    monkeypatch.setattr(block_ext4, "ext4_block_size", lambda _device: 4096)
    return make(tmp_path, tools, **keys), tools


async def _base(storage: Any) -> None:
    async with storage.making_base(KEY, GIB):
        pass


async def _read(storage: Any, name: str) -> None:
    async with storage.reading_snapshot(name, "vzdump"):
        pass


def _scenes(storage: Any, folder: Path) -> list[tuple[str, Callable[[], Coroutine[Any, Any, Any]]]]:
    image = folder / "image.raw"
    image.write_bytes(bytes(1 << 20))
    disk, files = storage.disk_name(100, 0), storage.volume_name(101, 0, GIB)
    base, made = "base-100-disk-0", storage.volume_name(103, 0, GIB)
    scenes = [
        ("prepare", storage.prepare),
        ("usage", storage.usage),
        ("allocate_disk DISK", lambda: storage.allocate_disk(disk, GIB)),
        ("disk_path DISK", lambda: storage.disk_path(disk)),
        ("resize_disk DISK, larger", lambda: storage.resize_disk(disk, 2 * GIB)),
        ("import_disk", lambda: storage.import_disk(image, "raw", "vm-100-disk-1")),
        ("write_file, new", lambda: storage.write_file("vm-100-cloudinit", b"x")),
        ("write_file, again", lambda: storage.write_file("vm-100-cloudinit", b"y")),
        ("allocate FILES", lambda: storage.allocate(files, GIB)),
        ("activate FILES", lambda: storage.activate(files)),
        ("resize FILES, larger, in use", lambda: storage.resize(files, 2 * GIB)),
        ("deactivate FILES", lambda: storage.deactivate(files)),
        ("resize FILES, smaller", lambda: storage.resize(files, GIB)),
        ("copy DISK", lambda: storage.copy(disk, "vm-102-disk-0")),
        ("copy FILES", lambda: storage.copy(files, storage.volume_name(102, 1, GIB))),
        ("making_base", lambda: _base(storage)),
        ("import_base", lambda: storage.import_base(KEY[::-1], image, "raw")),
        ("from_base, files", lambda: storage.from_base(KEY, made, 2 * GIB)),
        ("from_base, disk", lambda: storage.from_base(KEY[::-1], "vm-103-disk-1", 2 * GIB)),
    ]
    if storage.capabilities.snapshots:
        scenes += [
            ("snapshot DISK one", lambda: storage.snapshot(disk, "one")),
            ("disk_image DISK one", lambda: storage.disk_image(disk, "one")),
            ("copy DISK one", lambda: storage.copy(disk, "vm-104-disk-0", "one")),
            ("rollback DISK one", lambda: storage.rollback(disk, "one")),
            ("delete_snapshot DISK one", lambda: storage.delete_snapshot(disk, "one")),
            ("snapshots DISK", lambda: storage.snapshots(disk)),
            ("snapshot FILES vzdump", lambda: storage.snapshot(files, "vzdump")),
            ("reading_snapshot FILES vzdump", lambda: _read(storage, files)),
            ("delete_snapshot FILES vzdump", lambda: storage.delete_snapshot(files, "vzdump")),
        ]
    scenes.append(("make_base DISK", lambda: storage.make_base(disk)))
    clone = storage.clone_name(base, 105, 0, "images")
    if storage.capabilities.clones:
        scenes += [("clone BASE", lambda: storage.clone(base, clone)), ("delete CLONE", lambda: storage.delete(clone))]
    scenes += [
        ("delete BASE", lambda: storage.delete(base)),
        ("delete FILES", lambda: storage.delete(files)),
        ("delete made of a base", lambda: storage.delete(made)),
        ("drop_base", lambda: storage.drop_base(KEY)),
    ]
    return scenes


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("storage_and_tools", "name"), [(name, name) for name in CASES], indirect=["storage_and_tools"]
)
async def test_golden(storage_and_tools: Any, name: str, tmp_path: Path) -> None:
    storage, tools = storage_and_tools
    short = {
        lvm._CONFIG: "CONFIG",
        "lvs  --config  CONFIG  --reportformat  json  --units  b  --nosuffix  --options  " + lvm._FIELDS: "LVS",
        "zfs  list  -H  -p  -r  -d  1  -t  filesystem,volume  -o  " + zfs._FIELDS: "DATASETS",
    }
    text: list[str] = []
    for title, call in _scenes(storage, tmp_path):
        start = len(tools.record)
        await call()
        if hasattr(storage.pool, "idle"):
            await storage.pool.idle()
        text.append(f"# {title}\n" + "".join(f"{line}\n" for line in tools.record[start:]) + "\n")
    found = "".join(text).replace(str(tmp_path), "")
    for long, word in short.items():
        found = (f"{word} = {long}\n" if long in found else "") + found.replace(long, word)
    found = _PASSING.sub("/.PASSING", found)
    found = _OTHER.sub(r"\1-TOKEN", _TOKEN.sub(lambda match: f"{match[1]}{'' if match[2] else '-X'}", found))
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / f"{name}.txt").write_text(found)
    assert found == (GOLDEN / f"{name}.txt").read_text()
