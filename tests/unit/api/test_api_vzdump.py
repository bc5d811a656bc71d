"""vzdump through the API: who may ask for what, and what is answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bastide.model.backup import Tree
from bastide.operations.backup import vzdump
from bastide.operations.backup.saving import Backup
from bastide.operations.rooms import Rooms
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

VZDUMP = "/nodes/pve/vzdump"
CONFIG = "arch: amd64\nhostname: web\n"


async def _saved(rooms: Rooms, backup: Backup) -> None:
    folder = rooms.layout.state / "tree"
    folder.mkdir(exist_ok=True)
    await backup.sink.save_tree(Tree(folder), CONFIG)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Two containers, whose files are not looked at."""
    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": _saved})
    made = await Api.make(tmp_path)
    for vmid in (100, 101):
        upid = await made.data("POST", "/nodes/pve/lxc", vmid=vmid, ostemplate=TEMPLATE, unprivileged=1, memory=64)
        assert await made.wait(upid) == "OK"
    yield made
    await made.services.rooms.tasks.shutdown()


async def _volids(api: Api) -> list[str]:
    rows = await api.data("GET", "/nodes/pve/storage/local/content", content="backup")
    return [row["volid"] for row in rows]


async def test_a_backup_is_made_and_listed(api: Api) -> None:
    upid = await api.data("POST", VZDUMP, vmid=100, compress="zstd", storage="local", **{"notes-template": "{{vmid}}"})
    assert upid.split(":")[5:7] == ["vzdump", "100"]
    assert await api.wait(upid) == "OK"
    (row,) = await api.data("GET", "/nodes/pve/storage/local/content", content="backup")
    assert {key: row[key] for key in ("vmid", "subtype", "format", "notes", "content")} == {
        "vmid": 100, "subtype": "lxc", "format": "tar.zst", "notes": "100", "content": "backup",
    }  # fmt: skip
    assert await api.data("GET", f"{VZDUMP}/extractconfig", volume=row["volid"]) == CONFIG
    path = (await api.data("GET", f"/nodes/pve/storage/local/content/{row['volid']}"))["path"]
    assert await api.data("GET", f"{VZDUMP}/extractconfig", volume=path) == CONFIG
    upid = await api.data("DELETE", f"/nodes/pve/storage/local/content/{row['volid']}")
    assert await api.wait(upid) == "OK"
    assert list(Path(path).parent.iterdir()) == []


async def test_several_guests_are_one_task(api: Api) -> None:
    upid = await api.data("POST", VZDUMP, all=1, mode="stop", compress="gzip")
    assert upid.split(":")[6] == ""
    assert await api.wait(upid) == "OK"
    assert len(await _volids(api)) == 2
    assert await api.data("POST", VZDUMP, stop=1) == "OK"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "vmid"),
        ({"vmid": "999"}, "vmid"),
        ({"vmid": "100", "storage": "nowhere"}, "storage"),
        ({"vmid": "100", "stdout": "1"}, "stdout"),
        ({"vmid": "100", "mode": "quick"}, "mode"),
        ({"vmid": "100", "script": "/nowhere/hook"}, "script"),
        ({"pool": "none"}, "pool"),
        ({"vmid": "100", "size": "1"}, "size"),
        ({"vmid": "100", "prune-backups": "keep-sometimes=1"}, "prune-backups"),
        ({"vmid": "100", "exclude-path": "a\nb"}, "exclude-path"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, values: dict[str, Any], key: str) -> None:
    answer = await call(api.root, "POST", VZDUMP, **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [key])


async def test_rights(api: Api, tmp_path: Path) -> None:
    ada = await api.token(grants={"/vms/100": "PVEVMUser", "/storage/local": "PVEDatastoreUser"})
    upid = (await call(ada, "POST", VZDUMP, vmid=100)).json()["data"]
    assert await api.wait(upid) == "OK"
    for values, path in (
        ({"vmid": "101"}, "/vms/101, VM.Backup"),
        ({"vmid": "998"}, "/vms/998, VM.Backup"),
        ({"vmid": "100", "bwlimit": "1"}, "/, Sys.Modify"),
        ({"vmid": "100", "webhook": "https://10.0.0.1/x"}, "/, Sys.Modify"),
        ({"vmid": "100", "maxfiles": "1"}, "/storage/local, Datastore.Allocate"),
        ({"vmid": "100", "storage": "other"}, "/storage/other, Datastore.AllocateSpace"),
        ({"vmid": "100", "fleecing": "1,storage=other"}, "/storage/other, Datastore.AllocateSpace"),
    ):
        answer = await call(ada, "POST", VZDUMP, **values)
        assert (answer.status_code, path in answer.text) == (403, True), values
    for key, value in (("dumpdir", str(tmp_path)), ("tmpdir", str(tmp_path)), ("script", "/x"), ("job-id", "j")):
        answer = await call(ada, "POST", VZDUMP, vmid=100, **{key: value})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [key])
    (volid,) = await _volids(api)
    assert (await call(ada, "GET", f"{VZDUMP}/extractconfig", volume=volid)).json()["data"] == CONFIG
    assert (
        await call(ada, "GET", f"{VZDUMP}/extractconfig", volume=f"/x/{volid.rpartition('/')[2]}")
    ).status_code == 403
    bob = await api.token("bob@pve", grants={"/vms/101": "PVEVMUser", "/storage/local": "PVEDatastoreUser"})
    assert (await call(bob, "GET", f"{VZDUMP}/extractconfig", volume=volid)).status_code == 403
    upid = (await call(bob, "POST", VZDUMP, all=1)).json()["data"]
    assert await api.wait(upid) == "OK"
    assert sorted(volid.split("-")[2] for volid in await _volids(api)) == ["100", "101"]


async def test_defaults(api: Api) -> None:
    found = await api.data("GET", f"{VZDUMP}/defaults")
    assert {key: found[key] for key in ("mode", "compress", "storage", "ionice", "lockwait", "prune-backups")} == {
        "mode": "snapshot", "compress": "0", "storage": "local", "ionice": 7, "lockwait": 180,
        "prune-backups": "keep-all=1",
    }  # fmt: skip
    await api.data("PUT", "/storage/local", **{"prune-backups": "keep-last=2"})
    found = await api.data("GET", f"{VZDUMP}/defaults", storage="local")
    assert (found["prune-backups"], "storage" in found) == ("keep-last=2", False)
    nobody = await api.token("eve@pve")
    assert (await call(nobody, "GET", f"{VZDUMP}/defaults")).status_code == 403


@pytest.mark.parametrize(
    "volume", ["local:iso/a.iso", "local:backup/x.tar.zst", "local:backup/../x", "nowhere:backup/a"]
)
async def test_what_is_no_backup_is_told(api: Api, volume: str) -> None:
    answer = await call(api.root, "GET", f"{VZDUMP}/extractconfig", volume=volume)
    assert answer.status_code in (400, 404, 500)
    assert "internal error" not in answer.text
