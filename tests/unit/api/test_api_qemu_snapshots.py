"""The methods of VMs' snapshots, clones and templates, over the fakes: parameters, answers, permissions."""

import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

VM = "/nodes/pve/qemu/100"


async def make(api: Api) -> None:
    made = await api.data("POST", "/nodes/pve/qemu", vmid=100, name="db", net0="virtio,bridge=vmbr0", memory=256)
    assert await api.wait(made) == "OK"


async def done(api: Api, method: str, path: str, **values: object) -> None:
    upid = await api.data(method, f"{VM}/{path}", **values)
    assert await api.wait(upid) == "OK"


async def test_the_life_of_a_snapshot(api: Api) -> None:
    await make(api)
    assert (await api.data("GET", f"{VM}/feature", feature="snapshot")) == {"hasFeature": 1, "nodes": ["pve"]}
    upid = await api.data("POST", f"{VM}/snapshot", snapname="then", description="two\nlines")
    assert upid.split(":")[5] == "qmsnapshot"
    assert await api.wait(upid) == "OK"
    row, current = await api.data("GET", f"{VM}/snapshot")
    assert (row["name"], row["description"], row["vmstate"]) == ("then", "two\nlines", 0)
    assert (current["name"], current["parent"]) == ("current", "then")
    assert await api.data("GET", f"{VM}/snapshot/then") == [
        {"cmd": "config"}, {"cmd": "rollback"},
    ]  # fmt: skip
    await api.data("PUT", f"{VM}/snapshot/then/config", description="one line")
    kept = await api.data("GET", f"{VM}/snapshot/then/config")
    assert (kept["description"], kept["memory"], kept["name"]) == ("one line", "256", "db")
    await api.data("PUT", f"{VM}/config", memory=512)
    assert (await api.data("GET", f"{VM}/config", snapshot="then"))["memory"] == "256"
    await done(api, "POST", "snapshot/then/rollback", start=1)
    assert (await api.data("GET", f"{VM}/config"))["memory"] == "256"
    assert (await api.data("GET", f"{VM}/status/current"))["status"] == "running"
    await done(api, "DELETE", "snapshot/then")
    assert [row["name"] for row in await api.data("GET", f"{VM}/snapshot")] == ["current"]


async def test_a_template_and_clones(api: Api) -> None:
    await make(api)
    upid = await api.data("POST", f"{VM}/clone", newid=101, name="copy", full=1, target="pve")
    assert upid.split(":")[5:7] == ["qmclone", "100"]
    assert await api.wait(upid) == "OK"
    assert (await api.data("GET", "/nodes/pve/qemu/101/config"))["name"] == "copy"
    await done(api, "POST", "template")
    assert (await api.data("GET", f"{VM}/config"))["template"] == 1
    await done(api, "POST", "clone", newid=102)
    refused = await call(api.root, "POST", f"{VM}/status/start")
    assert (refused.status_code, "template" in refused.text) == (500, True)


@pytest.mark.parametrize(
    ("path", "values", "status"),
    [
        ("snapshot", {}, 400),
        ("snapshot", {"snapname": "a b"}, 400),
        ("snapshot", {"snapname": "current"}, 400),
        ("snapshot/never/rollback", {}, 500),
        ("clone", {}, 400),
        ("clone", {"newid": 100}, 500),
        ("clone", {"newid": 101, "target": "elsewhere"}, 501),
        ("clone", {"newid": 101, "bwlimit": -1}, 400),
        ("clone", {"newid": 101, "bwlimit": 5}, 200),
        ("clone", {"newid": 101, "full": 0}, 400),
        ("clone", {"newid": 101, "name": "a_b"}, 400),
        ("template", {"disk": "scsi99"}, 400),
        ("status/suspend", {"statestorage": "local"}, 400),
    ],
)
async def test_what_is_refused_and_taken(api: Api, path: str, values: dict[str, object], status: int) -> None:
    await make(api)
    answer = await call(api.root, "POST", f"{VM}/{path}", **values)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("method", "path", "values", "role", "allowed"),
    [
        ("POST", "snapshot", {"snapname": "then"}, "PVEAuditor", False),
        ("POST", "snapshot", {"snapname": "then"}, "PVEVMAdmin", True),
        ("GET", "snapshot", {}, "PVEAuditor", True),
        ("POST", "clone", {"newid": 101}, "PVEVMUser", False),
        ("POST", "template", {}, "PVEVMUser", False),
        ("POST", "template", {}, "PVEVMAdmin", True),
    ],
)
async def test_who_may(
    api: Api, method: str, path: str, values: dict[str, object], role: str, *, allowed: bool
) -> None:
    await make(api)
    client = await api.token(grants={"/vms/100": role})
    answer = await call(client, method, f"{VM}/{path}", **values)
    assert (answer.status_code == 200) == allowed, answer.text
    if not allowed:
        assert answer.status_code == 403


async def test_a_clone_needs_rights_on_all_that_it_takes(api: Api) -> None:
    made = await api.data("POST", "/nodes/pve/qemu", vmid=100, scsi0="local:0.001", net0="virtio,bridge=vmbr0")
    assert await api.wait(made) == "OK"
    grants = {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/sdn/zones/localnetwork/vmbr0": "PVESDNUser"}
    for number, missing in enumerate(grants):
        some = {path: role for path, role in grants.items() if path != missing}
        client = await api.token(f"ada{number}@pve", grants=some)
        assert (await call(client, "POST", f"{VM}/clone", newid=101)).status_code == 403, missing
    client = await api.token("eve@pve", grants=grants)
    answer = await call(client, "POST", f"{VM}/clone", newid=101)
    assert answer.status_code == 200, answer.text
    assert await api.wait(answer.json()["data"]) == "OK"
