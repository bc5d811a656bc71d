"""Attacks by way of storages, snapshots, clones and templates: what a person with some rights gets hold of.

Attack classes 9, 11, 13, 14 and 28: forbidden things carried by another route, names that end a line or an option,
others' volumes, and many requests at once.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bastide.host import network_mounts
from bastide.storage.mounted import MountedStorage
from framework.api import Api, call
from framework.rooms import FAKE_STORAGES, TEMPLATE

pytestmark = pytest.mark.anyio

CT, VM = "/nodes/pve/lxc", "/nodes/pve/qemu"
CONTROLS = ["\n", "\r", "\0", "\t", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\n[other]\nargs: x", "/", "/../x", "..",
            "%2f", " ", "'", '"', "$(id)", "`id`", ";id", ",x=y", "@x", "\u0430", "\ud7ff"]  # fmt: skip
OWNER = {"/vms/101": "PVEVMAdmin", "/vms/102": "PVEVMAdmin", "/storage": "PVEDatastoreUser", "/sdn": "PVESDNUser"}
"""Somebody who has the guests 101 and 102, room for disks, and the bridges."""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """An API whose storage does everything; the containers 100 and 101, the VMs 200 and 201."""
    made = await Api.make(tmp_path, FAKE_STORAGES)
    for vmid in (100, 101):
        upid = await made.data("POST", CT, vmid=vmid, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1")
        assert await made.wait(upid) == "OK"
        assert await made.wait(await made.data("POST", VM, vmid=vmid + 100, scsi0="local:0.01,format=raw")) == "OK"
    yield made
    await made.services.rooms.tasks.shutdown()


async def give(api: Api, vmid: int, **options: Any) -> None:
    """Options that root has set, or an earlier program."""
    guest = await api.services.rooms.guests.get(vmid)
    await api.services.rooms.guests.update(guest.with_config({**guest.config, **options}))


async def volumes(api: Api) -> set[str]:
    return {row["volid"] for row in await api.data("GET", "/nodes/pve/storage/local/content")}


HARDWARE: list[tuple[str, int, dict[str, Any]]] = [
    (VM, 200, {"hostpci0": "host=01:00.0"}), (VM, 200, {"hostpci0": "mapping=card"}),
    (VM, 200, {"usb0": "host=1234:5678"}), (VM, 200, {"virtiofs0": "share"}), (VM, 200, {"serial0": "/dev/ttyS0"}),
    (VM, 200, {"parallel0": "/dev/parport0"}), (VM, 200, {"rng0": "source=/dev/hwrng"}),
    (VM, 200, {"net0": "virtio,bridge=secret"}),
    (CT, 100, {"dev0": "/dev/null"}), (CT, 100, {"unprivileged": 0}), (CT, 100, {"mp0": "/srv,mp=/mnt"}),
    (CT, 100, {"net0": "name=eth0,bridge=secret"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "vmid", "options"), HARDWARE, ids=str)
async def test_no_copy_hands_out_what_its_maker_could_not_set(
    api: Api, kind: str, vmid: int, options: dict[str, Any]
) -> None:
    """A guest to which root gave something of the host's: who may clone it does not get that into a guest of theirs."""
    await give(api, vmid, **options)
    assert await api.wait(await api.data("POST", f"{kind}/{vmid}/snapshot", snapname="one")) == "OK"
    own = {**OWNER, f"/vms/{vmid}": "PVEVMAdmin", "/sdn/zones/localnetwork/secret": "NoAccess"}
    user = await api.token(grants=own)
    before = await volumes(api)
    for values in ({}, {"full": 1}, {"snapname": "one"}):
        answer = await call(user, "POST", f"{kind}/{vmid}/clone", newid=102, **values)
        assert answer.status_code == 403 or "type bind" in answer.text, answer.text
    assert await volumes(api) == before
    assert 102 not in [row["vmid"] for row in await api.data("GET", kind)]


@pytest.mark.parametrize(("kind", "vmid"), [(CT, 100), (VM, 200)])
async def test_a_linked_clone_needs_the_right_to_clone_its_template(api: Api, kind: str, vmid: int) -> None:
    assert await api.wait(await api.data("POST", f"{kind}/{vmid}/template")) == "OK"
    await api.data("POST", "/pools", poolid="theirs")
    await api.data("POST", "/pools", poolid="others")
    source, here = f"/vms/{vmid}", {"/storage": "PVEDatastoreUser", "/sdn": "PVESDNUser"}
    cases: list[tuple[dict[str, str], dict[str, Any], int]] = [
        ({**OWNER}, {}, 403),
        ({**OWNER, source: "PVEVMUser"}, {}, 403),
        ({**OWNER, source: "PVEAuditor"}, {"full": 1}, 403),
        ({**here, source: "PVETemplateUser"}, {}, 403),
        ({**here, source: "PVETemplateUser", "/pool/theirs": "PVEVMAdmin"}, {"pool": "others"}, 403),
        ({**here, source: "PVETemplateUser", "/pool/theirs": "PVEVMAdmin"}, {"pool": "theirs"}, 200),
    ]
    for number, (grants, values, status) in enumerate(cases):
        user = await api.token(f"u{number}@pve", grants=grants)
        answer = await call(user, "POST", f"{kind}/{vmid}/clone", newid=102, **values)
        assert answer.status_code == status, (grants, answer.text)
    assert await api.wait(answer.json()["data"]) == "OK"
    config = await api.data("GET", f"{kind}/102/config")
    assert any(f"base-{vmid}-disk-0" in str(value) for value in config.values())


@pytest.mark.parametrize("kind", [CT, VM])
async def test_no_name_of_a_snapshot_ends_a_line_or_a_path(api: Api, kind: str) -> None:
    vmid = 100 if kind == CT else 200
    before = await volumes(api)
    someone = await api.token(grants={"/": "Administrator"})
    for bad in [*CONTROLS, "", "-a", "_a", "1a", "a", "current", "pending", "x" * 41]:
        name = f"ok{bad}x" if bad in CONTROLS else bad
        for client in (api.root, someone):
            answer = await call(client, "POST", f"{kind}/{vmid}/snapshot", snapname=name)
            assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["snapname"]), (bad, answer.text)
            clone = await call(client, "POST", f"{kind}/{vmid}/clone", newid=105, snapname=name)
            assert clone.status_code in (400, 500), (bad, clone.text)
            for method, rest in (("DELETE", ""), ("POST", "/rollback"), ("PUT", "/config"), ("GET", "/config")):
                if not name:
                    continue  # which is the list's own path
                answer = await call(client, method, f"{kind}/{vmid}/snapshot/{quote(name, safe='')}{rest}")
                assert answer.status_code in (400, 404, 500, 501), (method, bad, answer.status_code)
    rows = await api.data("GET", f"{kind}/{vmid}/snapshot")
    assert [row["name"] for row in rows] == ["current"]
    assert await volumes(api) == before
    words = "a\nb\n[x]\nargs: -s"
    assert await api.wait(await api.data("POST", f"{kind}/{vmid}/snapshot", snapname="one", description=words)) == "OK"
    assert (await api.data("GET", f"{kind}/{vmid}/snapshot"))[0]["description"].strip() == words
    config = await api.data("GET", f"{kind}/{vmid}/config")
    assert "args" not in config
    answer = await call(api.root, "PUT", f"{kind}/{vmid}/snapshot/one/config", description="a\0b")
    assert answer.status_code == 400


async def test_neither_base_nor_memory_nor_clone_of_another_is_taken(api: Api) -> None:
    """Another's volumes of every kind, in each option and method that takes a volume's name."""
    rooms = api.services.rooms
    assert await api.wait(await api.data("POST", f"{VM}/200/status/start")) == "OK"
    upid = await api.data("POST", f"{VM}/200/snapshot", snapname="one", vmstate=1)
    assert await api.wait(upid) == "OK"
    memory = (await rooms.guests.get(200)).snapshots["one"].vmstate
    assert memory is not None
    assert await api.wait(await api.data("POST", f"{CT}/100/template")) == "OK"
    made = await api.data("POST", VM, vmid=202, scsi0="local:0.01,format=raw")
    assert await api.wait(made) == "OK"
    assert await api.wait(await api.data("POST", f"{VM}/202/template")) == "OK"
    assert await api.wait(await api.data("POST", f"{VM}/202/clone", newid=203)) == "OK"
    present = await volumes(api)
    theirs = sorted(volid for volid in present | {memory} if "101" not in volid and "201" not in volid
                    and "vztmpl" not in volid)  # fmt: skip
    assert any("base-100" in volid for volid in theirs)
    assert any("vm-203" in volid for volid in theirs)
    user = await api.token(grants={"/vms/101": "PVEVMAdmin", "/vms/201": "PVEVMAdmin", "/storage": "PVEDatastoreUser"})
    before = [await api.data("GET", path) for path in (f"{VM}/201/config", f"{CT}/101/config")]
    for volid in theirs:
        name = volid.partition(":")[2]
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("PUT", f"{VM}/201/config", {"scsi1": volid}),
            ("PUT", f"{VM}/201/config", {"unused0": volid}),
            ("POST", f"{VM}/201/config", {"scsi1": f"local:0,import-from={volid}"}),
            ("PUT", f"{CT}/101/config", {"mp0": f"{volid},mp=/mnt"}),
            ("PUT", f"{CT}/101/config", {"unused0": volid}),
            ("GET", f"/nodes/pve/storage/local/content/{volid}", {}),
            ("DELETE", f"/nodes/pve/storage/local/content/{volid}", {}),
            ("POST", f"/nodes/pve/storage/local/content/{volid}", {"target": name.replace("20", "10")}),
        ]
        for method, path, values in calls:
            answer = await call(user, method, path, **values)
            assert answer.status_code in (400, 403), (method, path, values, answer.text)
    assert [await api.data("GET", path) for path in (f"{VM}/201/config", f"{CT}/101/config")] == before
    assert await volumes(api) == present


async def test_nobody_makes_a_storage_of_the_systems_folders(api: Api, tmp_path: Path) -> None:
    await api.data("POST", "/access/roles", roleid="Shelves", privs="Datastore.Allocate,Datastore.AllocateSpace")
    user = await api.token(grants={"/storage": "Shelves"})
    state = api.services.rooms.layout.state
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "over").symlink_to(state)
    paths = ["/etc", "/etc/ssl", "/proc/self/root/etc", "/", "/dev/shm", "/usr/local", "/run", str(state),
             str(state / "secrets"), str(tmp_path / "link"), str(tmp_path / "link/ssl"), str(tmp_path / "over/secrets"),
             "/srv/../etc", "/srv/x\ny", "/srv/x\0", "srv"]  # fmt: skip
    seen = sorted(Path("/etc").iterdir())
    for kind in ("dir", "btrfs"):
        for path in paths:
            answer = await call(user, "POST", "/storage", storage="mine", type=kind, path=path, content="snippets")
            assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["path"]), (path, answer.text)
    assert sorted(Path("/etc").iterdir()) == seen
    assert [row["storage"] for row in await api.data("GET", "/storage")] == ["local"]


ENDS = ["\n", "\r", "\0", "\x0b", "\x85", "\u2028"]
SHARE = {"storage": "nas", "type": "cifs", "server": "nas.test", "share": "media", "username": "ada"}
OPTIONS: list[tuple[str, str]] = [
    *((key, f"{value}{end}uid=0") for key, value in (
        ("server", "nas.test"), ("share", "media"), ("username", "ada"), ("domain", "corp"), ("options", "vers=3"),
        ("subdir", "x"), ("password", "word"),
    ) for end in ENDS if end in "\n\r\0" or key != "password"),
    ("username", "ada,uid=0"), ("domain", "corp,uid=0"), ("share", "media,uid=0"), ("server", "nas.test,uid=0"),
    ("subdir", "x,uid=0"), ("subdir", "../x"), ("subdir", "/"), ("server", "-o"), ("share", "-o"), ("share", "a/../b"),
    ("options", "uid=0"), ("options", "vers=3,UID=0"), ("options", "vers=3, uid=0"), ("options", "credentials=/etc/x"),
    ("options", "cred=/etc/x"), ("options", "password=x"), ("options", "user=root"), ("options", "prefixpath=x"),
    ("options", "suid"), ("options", "vers=3;suid"), ("options", "-o suid"), ("options", "a=$(id)"),
    ("smbversion", "3,uid=0"),
]  # fmt: skip


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The mounts that would have been made."""
    seen: list[list[str]] = []

    async def mount(argv: list[str]) -> None:
        seen.append(argv)

    monkeypatch.setattr(network_mounts, "mount", mount)
    monkeypatch.setattr(MountedStorage, "_is_mounted", lambda _self: False)
    return seen


@pytest.mark.parametrize(("key", "value"), OPTIONS, ids=repr)
async def test_no_value_becomes_an_option_of_a_mount(
    tmp_path: Path, mounts: list[list[str]], key: str, value: str
) -> None:
    api = await Api.make(tmp_path)
    answer = await call(api.root, "POST", "/storage", **{**SHARE, key: value})
    assert (answer.status_code, [*answer.json()["errors"]]) == (400, [key]), answer.text
    assert mounts == []
    secrets = api.services.rooms.layout.state / "secrets/storage"
    assert not secrets.exists() or list(secrets.iterdir()) == []
    await api.services.rooms.tasks.shutdown()


@pytest.mark.parametrize("kind", [CT, VM])
async def test_many_at_once_leave_what_they_say_and_no_more(api: Api, kind: str) -> None:
    """Clones to the same vmid, snapshots, sizes and moves in any order: each ends, and what is deleted is gone."""
    vmid = 100 if kind == CT else 200
    where = str(api.services.rooms.layout.state.parent / "other")
    await api.data("POST", "/storage", storage="other", type="dir", path=where, content="images,rootdir")
    before = await volumes(api) | {row["volid"] for row in await api.data("GET", "/nodes/pve/storage/other/content")}
    move = ("move_volume", {"volume": "rootfs"}) if kind == CT else ("move_disk", {"disk": "scsi0"})
    disk = "rootfs" if kind == CT else "scsi0"
    wishes: list[tuple[str, str, dict[str, Any]]] = [
        *(("POST", "clone", {"newid": 300 + number % 5, "full": 1}) for number in range(12)),
        *(("POST", "snapshot", {"snapname": f"at{number % 3}"}) for number in range(6)),
        *(("PUT", "resize", {"disk": disk, "size": "+1M"}) for _ in range(6)),
        *(("POST", move[0], {**move[1], "storage": storage, "delete": 1}) for storage in ("other", "local") * 3),
        *(("POST", f"snapshot/at{number}/rollback", {}) for number in range(3)),
    ]
    random.Random(5).shuffle(wishes)
    answers = await asyncio.gather(*(call(api.root, method, f"{kind}/{vmid}/{path}", **values)
                                     for method, path, values in wishes))  # fmt: skip
    ended = [await api.wait(answer.json()["data"]) for answer in answers if answer.status_code == 200]
    assert "OK" in ended
    assert {answer.status_code for answer in answers} <= {200, 400, 500}
    made = [row["vmid"] for row in await api.data("GET", kind) if row["vmid"] >= 300]
    assert len(made) == len(set(made)) > 0
    for row in await api.data("GET", f"{kind}/{vmid}/snapshot"):
        if row["name"] != "current":
            assert await api.wait(await api.data("DELETE", f"{kind}/{vmid}/snapshot/{row['name']}")) == "OK"
    for clone in made:
        assert await api.wait(await api.data("DELETE", f"{kind}/{clone}")) == "OK"
    assert not [row for row in await api.data("GET", kind) if row.get("lock")]
    left = await volumes(api) | {row["volid"] for row in await api.data("GET", "/nodes/pve/storage/other/content")}
    config = await api.data("GET", f"{kind}/{vmid}/config")
    own = str(config[disk]).partition(",")[0]
    assert left - {own} == before - {volid for volid in before if f"/vm-{vmid}-" in volid}
