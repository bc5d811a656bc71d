"""Storages of every type in the registry: what stays as it was, places, secrets, what is attached, sums and limits."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, MethodNotImplemented, WrongState
from bastide.base.layout import Layout
from bastide.base.units import GIB
from bastide.model.storage import StorageConfig
from bastide.state.memory import MemoryStore
from bastide.storage import secrets
from bastide.storage.fake import FakeStorage
from bastide.storage.registry import Storages

pytestmark = pytest.mark.anyio


class Attached(FakeStorage):
    """A fake that is attached; it fails where `broken` says so."""

    log: ClassVar[list[str]] = []
    broken: ClassVar[dict[str, Exception]] = {}

    async def prepare(self) -> None:
        self._note("attach")
        await super().prepare()

    async def detach(self) -> None:
        self._note("detach")

    def _note(self, what: str) -> None:
        self.log.append(f"{what} {self.config.storage} {self.config.options}")
        if what in self.broken:
            raise self.broken[what]


@pytest.fixture
def storages(tmp_path: Path) -> Storages:
    Attached.log.clear()
    Attached.broken.clear()
    drivers: Any = {"dir": FakeStorage, "nfs": Attached, "cifs": Attached, "iscsi": Attached, "lvm": Attached}
    return Storages(MemoryStore(), Layout(tmp_path), drivers, node="n1")


def cifs(name: str = "nas", **more: Any) -> StorageConfig:
    return StorageConfig.parse({"storage": name, "type": "cifs", "server": "nas", "share": "media", **more})


async def test_a_share_is_attached_as_long_as_it_is_configured(storages: Storages) -> None:
    config = await storages.add(cifs(options="soft"))
    assert config.path is not None
    assert config.path.endswith("/mnt/nas")
    await storages.update("nas", {"content": "iso"})
    await storages.update("nas", {"options": "hard"})
    await storages.update("nas", {"disable": 1})
    assert Attached.log == [
        "attach nas soft", "attach nas soft", "detach nas soft", "attach nas hard", "detach nas hard",
    ]  # fmt: skip
    Attached.broken["detach"] = WrongState("in use")
    with pytest.raises(WrongState, match="in use"):
        await storages.remove("nas")
    assert (await storages.get("nas")).config.disable
    Attached.broken.clear()
    await storages.remove("nas")
    assert await storages.all() == []


async def test_what_cannot_be_attached_is_not_added_and_leaves_nothing(storages: Storages, tmp_path: Path) -> None:
    Attached.broken["attach"] = HostFailure("no route to host")
    with pytest.raises(HostFailure, match="no route"):
        await storages.add(cifs(username="ada"), {"password": "geheim"})
    assert Attached.log == ["attach nas None", "detach nas None"]
    assert secrets.read(Layout(tmp_path), "nas") == {}
    await storages.add(cifs(disable=1))
    assert Attached.log[2:] == []


async def test_a_secret_stands_in_no_record(storages: Storages, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    await storages.add(cifs(username="ada"), {"password": "geheim"})
    assert "geheim" not in json.dumps((await storages.get("nas")).config.to_text())
    assert secrets.path(layout, "nas", "password").read_text() == "password=geheim\n"
    Attached.broken["attach"] = HostFailure("logon failure")
    for change in ({"given": {"password": "wrong"}}, {"delete": ["password"]}):
        with pytest.raises(HostFailure, match="logon"):
            await storages.update("nas", {}, **change)  # type: ignore[arg-type]
        assert secrets.path(layout, "nas", "password").read_text() == "password=geheim\n", "the one that worked"
    Attached.broken.clear()
    await storages.update("nas", {}, given={"password": "new"})
    with pytest.raises(AlreadyExists):
        await storages.add(cifs(share="other"), {"password": "third"})
    assert secrets.path(layout, "nas", "password").read_text() == "password=new\n"
    with pytest.raises(InvalidParameter, match="keyring"):
        await storages.update("nas", {}, given={"keyring": "x"})
    await storages.update("nas", {}, delete=["password", "username"])
    assert secrets.read(layout, "nas") == {}
    await storages.update("nas", {}, given={"password": "new"})
    await storages.remove("nas")
    assert secrets.read(layout, "nas") == {}


async def test_a_start_forgets_secrets_of_storages_that_were_never_added(storages: Storages, tmp_path: Path) -> None:
    secrets.keep(Layout(tmp_path), "half", "password", "geheim")
    await storages.add(cifs(), {"password": "x"})
    await storages.start()
    assert secrets.read(Layout(tmp_path), "half") == {}
    assert secrets.read(Layout(tmp_path), "nas") != {}


async def test_two_storages_are_never_over_the_same_place(storages: Storages, tmp_path: Path) -> None:
    await storages.add(cifs())
    for twin in (cifs("twin"), cifs("twin", path=f"{tmp_path}/state/mnt/nas", share="other")):
        with pytest.raises(InvalidParameter, match="storage 'nas' uses this"):
            await storages.add(twin)
    await storages.add(cifs("part", subdir="vm"))
    folder = StorageConfig.parse({"storage": "dd", "type": "dir", "path": f"{tmp_path}//state/mnt/part/"})
    with pytest.raises(InvalidParameter, match="part"):
        await storages.add(folder)
    group = {"type": "lvm", "vgname": "vg"}
    await storages.add(StorageConfig.parse({"storage": "v1", **group}))
    with pytest.raises(InvalidParameter, match="vgname"):
        await storages.add(StorageConfig.parse({"storage": "v2", **group}))


async def test_what_a_storage_is_cannot_be_changed(storages: Storages) -> None:
    await storages.add(cifs())
    for change in ({"share": "x"}, {"server": "x"}, {"subdir": "x"}, {"path": "/x"}, {"type": "nfs"}):
        with pytest.raises(InvalidParameter, match="can't be changed"):
            await storages.update("nas", change)
    for gone in ("server", "share", "type"):
        with pytest.raises(InvalidParameter, match="can't be changed"):
            await storages.update("nas", {}, delete=[gone])
    with pytest.raises(InvalidParameter, match="not defined"):
        await storages.update("nas", {}, delete=["vgname"])
    with pytest.raises(InvalidParameter, match="content-dirs"):
        await storages.update("nas", {"content-dirs": "iso=template/cache/x"})
    await storages.update("nas", {"content-dirs": "iso=isos,images=vm/disks"})


async def test_a_type_without_a_driver_is_not_built(storages: Storages) -> None:
    with pytest.raises(MethodNotImplemented, match="zfspool"):
        await storages.add(StorageConfig.parse({"storage": "zz", "type": "zfspool", "pool": "tank"}))


async def test_what_volumes_may_grow_to_is_told(storages: Storages, tmp_path: Path) -> None:
    await storages.add(StorageConfig.parse({"storage": "dd", "type": "dir", "path": f"{tmp_path}/dd"}))
    storage: Any = await storages.get("dd")
    await storage.allocate(storage.volume_name(100, 0, 3 * GIB), 3 * GIB)
    await storage.allocate_disk(storage.disk_name(101, 0), 2 * GIB)
    assert await storages.allocated(storage) == 5 * GIB


async def test_the_smallest_limit_holds(storages: Storages, tmp_path: Path) -> None:
    for name, limit in (("aa", "default=500,clone=100"), ("bb", "clone=0,move=50"), ("cc", None)):
        values = {"storage": name, "type": "dir", "path": f"{tmp_path}/{name}", "bwlimit": limit}
        await storages.add(StorageConfig.parse(values))
    assert await storages.bandwidth("clone", ["aa", "bb"]) == 100
    assert await storages.bandwidth("clone", ["bb", "cc"]) is None
    assert await storages.bandwidth("move", ["aa", "bb"]) == 50
    assert await storages.bandwidth("restore", ["aa"], 10) == 10
    assert await storages.bandwidth("restore", ["cc"], 10) == 10
    assert await storages.bandwidth("restore", ["cc"], 0) is None


async def test_all_is_let_go_before_the_end_of_everything(storages: Storages) -> None:
    await storages.add(cifs())
    await storages.add(cifs("other", share="other"))
    Attached.broken["detach"] = WrongState("in use")
    await storages.detach_all()
    assert [line for line in Attached.log if line.startswith("detach")] == ["detach nas None", "detach other None"]
