"""Pruning: what goes, what stays, and that a pruning which is cut short leaves whole backups."""

from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, NotSupported, WrongState
from bastide.model.access import ROOT
from bastide.model.storage import PruneBackups
from bastide.operations.backup import prune
from bastide.operations.rooms import Rooms
from framework.rooms import fake_rooms

KEEP_ONE = PruneBackups.model_validate("keep-last=1")
OLD, NEW, OTHER = (
    "vzdump-lxc-100-2026_01_01-01_00_00.tar.zst",
    "vzdump-lxc-100-2026_01_02-01_00_00.tar.zst",
    "vzdump-lxc-101-2025_01_01-01_00_00.tar.zst",
)


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    made = await fake_rooms(tmp_path / "root")
    for name in (OLD, NEW, OTHER):
        put(made, name)
    return made


def dump(rooms: Rooms) -> Path:
    return rooms.layout.local_storage / "dump"


def put(rooms: Rooms, name: str) -> None:
    dump(rooms).mkdir(parents=True, exist_ok=True)
    (dump(rooms) / name).write_bytes(b"a backup")


def names(rooms: Rooms) -> set[str]:
    return {path.name for path in dump(rooms).iterdir()}


async def pruned(rooms: Rooms, **options: object) -> tuple[str | None, list[str]]:
    upid = await prune.start_prune(rooms, ROOT, "local", KEEP_ONE, **options)  # type: ignore[arg-type]
    record = await rooms.tasks.wait(upid)
    return record.exitstatus, [line.t for line in (await rooms.tasks.log(upid))[0]]


@pytest.mark.anyio
async def test_a_preview_changes_nothing_and_pruning_does_what_it_says(rooms: Rooms) -> None:
    rows = await prune.preview(rooms, "local", KEEP_ONE)
    assert [(row.volid.partition("/")[2], row.mark, row.kind, row.vmid) for row in rows] == [
        (NEW, "keep", "lxc", 100),
        (OLD, "remove", "lxc", 100),
        (OTHER, "keep", "lxc", 101),
    ]
    assert names(rooms) == {OLD, NEW, OTHER}
    status, log = await pruned(rooms)
    assert status == "OK"
    assert f"removed backup 'local:backup/{OLD}'" in log
    assert names(rooms) == {NEW, OTHER}


@pytest.mark.anyio
async def test_one_guest_or_one_kind(rooms: Rooms) -> None:
    assert [row.vmid for row in await prune.preview(rooms, "local", KEEP_ONE, vmid=101)] == [101]
    assert await prune.preview(rooms, "local", KEEP_ONE, kind="qemu") == []
    await pruned(rooms, vmid=101)
    await pruned(rooms, kind="qemu")
    assert names(rooms) == {OLD, NEW, OTHER}


@pytest.mark.anyio
async def test_protected_and_renamed_ones_stay(rooms: Rooms) -> None:
    (dump(rooms) / f"{OLD}.protected").touch()
    put(rooms, "vzdump-lxc-100-before-the-move.tar.zst")
    marked = {row.volid.partition("/")[2]: row.mark for row in await prune.preview(rooms, "local", KEEP_ONE, vmid=100)}
    assert marked == {NEW: "keep", OLD: "protected", "vzdump-lxc-100-before-the-move.tar.zst": "renamed"}
    await pruned(rooms)
    assert marked.keys() <= names(rooms)


@pytest.mark.anyio
async def test_the_storages_own_rules_hold_where_none_are_given(rooms: Rooms) -> None:
    with pytest.raises(InvalidParameter, match="no rules of its own"):
        await prune.preview(rooms, "local")
    await rooms.storages.update("local", {"prune-backups": "keep-last=1"})
    assert [row.mark for row in await prune.preview(rooms, "local", vmid=100)] == ["keep", "remove"]


@pytest.mark.anyio
async def test_one_that_cannot_go_does_not_keep_the_others(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    put(rooms, "vzdump-lxc-100-2025_12_31-01_00_00.tar.zst")
    storage = await rooms.storages.get("local")
    real = storage.delete

    async def delete(name: str) -> None:
        if "2025_12_31" in name:
            raise HostFailure("the disk is not well")
        if name.endswith(OLD):
            raise WrongState("protected in this moment")
        await real(name)

    monkeypatch.setattr(storage, "delete", delete)
    put(rooms, "vzdump-lxc-100-2025_12_30-01_00_00.tar.zst")
    status, _ = await pruned(rooms)
    assert status == "1 backups could not be removed from 'local': see the log"
    assert "vzdump-lxc-100-2025_12_30-01_00_00.tar.zst" not in names(rooms)
    assert OLD in names(rooms)


@pytest.mark.anyio
async def test_a_storage_without_backups_says_so(rooms: Rooms) -> None:
    await rooms.storages.update("local", {"content": "rootdir,vztmpl"})
    with pytest.raises(NotSupported, match="backup"):
        await prune.preview(rooms, "local", KEEP_ONE)
    await rooms.storages.update("local", {"disable": 1})
    with pytest.raises(WrongState, match="disabled"):
        await prune.preview(rooms, "local", KEEP_ONE)
