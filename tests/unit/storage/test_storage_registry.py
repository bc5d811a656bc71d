"""The configured storages: the first one, changes, refusals, and objects that live as long as their records."""

from pathlib import Path

import pytest

from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.base.layout import Layout
from bastide.host import filesystems
from bastide.model.storage import StorageConfig
from bastide.state.memory import MemoryStore
from bastide.storage.fake import FakeStorage
from bastide.storage.registry import Storages


def config(folder: Path, name: str = "data", **values: object) -> StorageConfig:
    return StorageConfig.parse({"storage": name, "type": "dir", "path": str(folder / name), **values})


@pytest.fixture
def storages(tmp_path: Path) -> Storages:
    return Storages(MemoryStore(), Layout(tmp_path), node="n1")


@pytest.mark.anyio
async def test_the_first_start_makes_local_and_a_later_one_respects_its_removal(
    storages: Storages, tmp_path: Path
) -> None:
    assert await storages.start() == []
    local = await storages.get("local")
    assert local.config.path == str(Layout(tmp_path).local_storage)
    assert {"vztmpl", "rootdir", "iso"} <= local.capabilities.contents
    await storages.add(config(tmp_path))
    await storages.remove("local")
    await storages.start()
    assert [storage.config.storage for storage in await storages.all()] == ["data"]


@pytest.mark.anyio
async def test_an_object_lives_as_long_as_its_record(storages: Storages, tmp_path: Path) -> None:
    await storages.add(config(tmp_path))
    first = await storages.get("data")
    assert await storages.get("data") is first
    digest = await storages.digest("data")
    await storages.update("data", {"content": "iso"}, digest=digest)
    second = await storages.get("data")
    assert second is not first
    assert second.config.contents == {"iso"}
    with pytest.raises(Conflict):
        await storages.update("data", {"content": "vztmpl"}, digest=digest)
    await storages.update("data", {}, delete=["content"])
    assert (await storages.get("data")).config.contents == {"images", "rootdir"}


@pytest.mark.anyio
async def test_what_cannot_be_a_storage_is_refused(storages: Storages, tmp_path: Path) -> None:
    await storages.add(config(tmp_path))
    with pytest.raises(AlreadyExists, match="already exists"):
        await storages.add(config(tmp_path))
    for path in ("/", "/etc", "/a/../etc", "/proc"):
        with pytest.raises(InvalidParameter, match="path"):
            await storages.add(StorageConfig.parse({"storage": "bad", "type": "dir", "path": path}))
    with pytest.raises(InvalidParameter, match="content"):
        await storages.add(config(tmp_path, "bad", content="nonsense"))
    with pytest.raises(InvalidParameter, match="path"):
        await storages.add(StorageConfig.parse({"storage": "twin", "type": "dir", "path": str(tmp_path / "data")}))
    with pytest.raises(InvalidParameter, match="path"):
        await storages.update("data", {"path": "/elsewhere"})
    assert [storage.config.storage for storage in await storages.all()] == ["data"]
    assert not (tmp_path / "bad").exists()


@pytest.mark.anyio
async def test_a_storage_serves_only_what_it_is_for(storages: Storages, tmp_path: Path) -> None:
    await storages.add(config(tmp_path, content="iso"))
    assert (await storages.files("data", "iso")).config.storage == "data"
    with pytest.raises(NotSupported, match="'vztmpl'"):
        await storages.files("data", "vztmpl")
    with pytest.raises(NotSupported, match="'rootdir'"):
        await storages.containers("data")
    for missing in ("nowhere", "no where", "../data"):
        with pytest.raises(NotFound, match="does not exist"):
            await storages.get(missing)
    storage, name = await storages.resolve("data:iso/a.iso")
    assert (storage.config.storage, name) == ("data", "iso/a.iso")
    await storages.update("data", {"nodes": "n2"})
    with pytest.raises(WrongState, match="not available"):
        await storages.resolve("data:iso/a.iso")
    await storages.update("data", {"disable": 1}, delete=["nodes"])
    with pytest.raises(WrongState, match="disabled"):
        await storages.files("data", "iso")


@pytest.mark.anyio
@pytest.mark.parametrize(("below", "made"), [("btrfs", "btrfs"), ("ext4", "dir"), (None, "dir")])
async def test_local_is_of_the_type_that_makes_most_of_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str | None, made: str
) -> None:
    entry = None if below is None else filesystems.MountEntry(tmp_path, "/dev/x", below, "254:0", frozenset())
    monkeypatch.setattr(filesystems, "mount_of", lambda _path: entry)
    drivers = {"dir": FakeStorage, "btrfs": FakeStorage}
    for known, expected in ((drivers, made), ({"dir": FakeStorage}, "dir")):
        storages = Storages(MemoryStore(), Layout(tmp_path), known)
        assert await storages.start() == []
        assert (await storages.get("local")).config.type == expected
