"""Snapshots, clones, templates and moves of containers over the API: what is answered, and who may do it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from framework.api import Api, call
from framework.rooms import FAKE_STORAGES, TEMPLATE

pytestmark = pytest.mark.anyio

CT = "/nodes/pve/lxc/100"


@pytest.fixture
async def ct(tmp_path: Path) -> AsyncIterator[Api]:
    """The API over storages that do everything, and the container 100."""
    api = await Api.make(tmp_path, FAKE_STORAGES)
    upid = await api.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1",
                          hostname="web", net0="name=eth0,bridge=vmbr0")  # fmt: skip
    assert await api.wait(upid) == "OK"
    yield api
    await api.services.rooms.tasks.shutdown()


async def test_a_snapshot_and_the_way_back(ct: Api) -> None:
    assert await ct.wait(await ct.data("POST", f"{CT}/snapshot", snapname="s1", description="a\nb")) == "OK"
    first, current = await ct.data("GET", f"{CT}/snapshot")
    assert (first["name"], first["description"], first["snaptime"] > 0) == ("s1", "a\nb", True)
    assert (current["name"], current["parent"], current["running"]) == ("current", "s1", 0)
    assert await ct.data("GET", f"{CT}/snapshot/s1") == [{"cmd": "config"}, {"cmd": "rollback"}]
    await ct.data("PUT", f"{CT}/snapshot/s1/config", description="better")
    shown = await ct.data("GET", f"{CT}/snapshot/s1/config")
    assert (shown["description"], shown["hostname"]) == ("better", "web")
    assert (await ct.data("GET", f"{CT}/config", snapshot="s1"))["snaptime"] == first["snaptime"]
    assert (await ct.data("GET", f"{CT}/config"))["parent"] == "s1"
    upid = await ct.data("POST", f"{CT}/snapshot/s1/rollback", start=1)
    assert (upid.split(":")[5], await ct.wait(upid)) == ("vzrollback", "OK")
    assert (await ct.data("GET", f"{CT}/status/current"))["status"] == "running"
    upid = await ct.data("DELETE", f"{CT}/snapshot/s1", force=1)
    assert (upid.split(":")[5], await ct.wait(upid)) == ("vzdelsnapshot", "OK")
    assert len(await ct.data("GET", f"{CT}/snapshot")) == 1


async def test_a_template_and_a_clone(ct: Api) -> None:
    assert await ct.data("GET", f"{CT}/feature", feature="snapshot") == {"hasFeature": 1}
    assert await ct.data("GET", f"{CT}/feature", feature="clone") == {"hasFeature": 0}
    upid = await ct.data("POST", f"{CT}/template")
    assert (upid.split(":")[5], await ct.wait(upid)) == ("vztemplate", "OK")
    assert await ct.data("GET", f"{CT}/feature", feature="clone") == {"hasFeature": 1}
    upid = await ct.data("POST", f"{CT}/clone", newid=101, hostname="copy", target="pve")
    assert (upid.split(":")[5], await ct.wait(upid)) == ("vzclone", "OK")
    rows = {row["vmid"]: row for row in await ct.data("GET", "/nodes/pve/lxc")}
    assert (rows[100]["template"], rows[101]["name"], rows[101].get("template")) == (1, "copy", None)
    resources = {row["vmid"]: row for row in await ct.data("GET", "/cluster/resources", type="vm")}
    assert (resources[100]["template"], resources[101]["template"]) == (1, 0)
    answer = await call(ct.root, "POST", f"{CT}/clone", newid=102, target="elsewhere")
    assert answer.status_code == 501


async def test_a_volume_moves(ct: Api, tmp_path: Path) -> None:
    await ct.data("POST", "/storage", storage="other", type="dir", path=str(tmp_path / "other"), content="rootdir")
    upid = await ct.data("POST", f"{CT}/move_volume", volume="rootfs", storage="other", bwlimit=1000000)
    assert (upid.split(":")[5], await ct.wait(upid)) == ("move_volume", "OK")
    config = await ct.data("GET", f"{CT}/config")
    assert (config["rootfs"].partition(":")[0], config["unused0"].partition(":")[0]) == ("other", "local")
    answer = await call(ct.root, "POST", f"{CT}/move_volume", volume="mp999", storage="other")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "values", "grants", "status"),
    [
        ("POST", "/snapshot", {"snapname": "s1"}, {"/vms/100": "PVEAuditor"}, 403),
        ("POST", "/snapshot", {"snapname": "s1"}, {"/vms/100": "PVEVMAdmin"}, 200),
        ("POST", "/clone", {"newid": 101}, {"/vms/100": "PVEVMAdmin"}, 403),
        ("POST", "/clone", {"newid": 101}, {"/vms": "PVEVMAdmin"}, 403),
        ("POST", "/clone", {"newid": 101}, {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser"}, 403),
        (
            "POST", "/clone", {"newid": 101},
            {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/sdn": "PVESDNUser"}, 200,
        ),
        ("POST", "/template", {}, {"/vms/100": "PVEVMUser"}, 403),
        ("POST", "/template", {}, {"/vms/100": "PVEVMAdmin"}, 200),
        ("POST", "/move_volume", {"volume": "rootfs", "storage": "other"}, {"/vms/100": "PVEVMAdmin"}, 403),
        ("POST", "/move_volume", {"volume": "mp0", "target-vmid": 101}, {"/vms/100": "PVEVMAdmin"}, 403),
    ],
)  # fmt: skip
async def test_who_may(
    ct: Api, method: str, path: str, values: dict[str, object], grants: dict[str, str], status: int
) -> None:
    client = await ct.token(grants=grants)
    answer = await call(client, method, f"{CT}{path}", **values)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert await ct.wait(answer.json()["data"]) == "OK"


async def test_what_is_wrong_is_said_at_once(ct: Api) -> None:
    for path, values, words in (
        ("/snapshot", {"snapname": "current"}, "snapname"),
        ("/snapshot/nothing/rollback", {}, "does not exist"),
        ("/clone", {"newid": 100}, "already exists"),
        ("/clone", {"newid": 101, "full": 0}, "linked clones are made of templates"),
        ("/move_volume", {"volume": "rootfs"}, "say where to"),
    ):
        answer = await call(ct.root, "POST", f"{CT}{path}", **values)
        assert answer.status_code >= 400
        assert words in answer.text
