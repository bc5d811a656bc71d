"""`POST /nodes/{node}/lxc` with `restore`: who may restore what over what, and what a backup may not bring."""

from pathlib import Path
from typing import Any

import pytest

from bastide.api import new_guests
from bastide.model.guest import Guest
from framework.api import Api, call
from framework.ct_archives import CONFIG, backup_tar

pytestmark = pytest.mark.anyio

LXC = "/nodes/pve/lxc"
NAME = "vzdump-lxc-100-2023_11_14-22_13_20.tar"
VOLID = f"local:backup/{NAME}"
SPACE = {"/storage/local": "PVEDatastoreUser"}
NET = {"/sdn/zones/localnetwork/vmbr0": "PVESDNUser"}


@pytest.fixture
async def backup(api: Api) -> Path:
    """A backup of container 100 on `local`."""
    files = await api.services.rooms.storages.files("local", "backup")
    path = await files.file_path(f"backup/{NAME}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(backup_tar())
    return path


async def restored(api: Api, **options: Any) -> dict[str, Any]:
    values = {"vmid": 100, "ostemplate": VOLID, "restore": 1, **options}
    assert (await api.wait(await api.data("POST", LXC, **values))).startswith(("OK", "WARNINGS"))
    return dict(await api.data("GET", f"{LXC}/{values['vmid']}/config"))


async def test_root_restores(api: Api, backup: Path) -> None:
    config = await restored(api, vmid=101, memory=64, bwlimit=100000)
    assert (config["memory"], config["hostname"]) == (64, "shop")
    config = await restored(api, vmid=102, ostemplate=str(backup), unique=1, **{"ignore-unpack-errors": 1})
    assert "BC:24:11:04:4F:5E" not in config["net0"]
    taken = await call(api.root, "POST", LXC, vmid=101, ostemplate=VOLID, restore=1)
    assert "unable to restore CT 101 - CT 101 already exists on node 'pve'" in taken.json()["message"]
    config = await restored(api, vmid=101, force=1)
    assert config["memory"] == 256


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"restore": 0, "unique": 1}, "restore"),
        ({"ostemplate": "local:vztmpl/debian-12-test_1_amd64.tar.gz"}, "ostemplate"),
        ({"ostemplate": "nonsense"}, "ostemplate"),
        ({"ostemplate": "/etc/passwd"}, "ostemplate"),
        ({"ostemplate": "local:backup/vzdump-qemu-100-2023_11_14-22_13_20.vma"}, "ostemplate"),
        ({"restore": 0, "ostemplate": "/etc/passwd"}, "ostemplate"),
    ],
)
async def test_what_does_not_go_together(api: Api, backup: Path, options: dict[str, Any], key: str) -> None:
    assert backup.exists()
    answer = await call(api.root, "POST", LXC, **{"vmid": 101, "ostemplate": VOLID, "restore": 1, **options})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [key]), answer.text
    assert await api.data("GET", LXC) == []


async def test_who_may_restore(api: Api, backup: Path) -> None:
    assert backup.exists()
    await restored(api)
    owner = await api.token("owner@pve", grants={**SPACE, **NET, "/vms/100": "PVEVMAdmin"})
    keeper = await api.token("keeper@pve", grants={**SPACE, **NET, "/vms/101": "PVEVMAdmin"})
    poor = await api.token("poor@pve", grants={"/vms/100": "PVEVMAdmin"})
    values = {"ostemplate": VOLID, "restore": "1"}

    async def lacks(client: Any, **options: str) -> str:
        answer = await call(client, "POST", LXC, **{**values, **options})
        return str(answer.json()["message"]) if answer.status_code == 403 else ""

    assert "/vms/100, VM.Backup" in await lacks(keeper, vmid="101"), "the backup is another guest's"
    assert "/vms/100, VM.Allocate" in await lacks(keeper, vmid="100", force="1")
    assert "/storage/local, Datastore.AllocateSpace" in await lacks(poor, vmid="100", force="1")
    assert "/, Sys.Modify" in await lacks(owner, vmid="100", force="1", unprivileged="0")
    assert "/vms/103, VM.Allocate" in await lacks(owner, vmid="103")
    assert "only root" in await lacks(owner, vmid="100", force="1", ostemplate=str(backup))
    assert "only allowed for root" in await lacks(owner, vmid="100", force="1", mp0="/etc,mp=/x", rootfs="local:1")
    assert await lacks(owner, vmid="100", force="1") == ""


async def test_the_right_to_back_up_replaces_but_does_not_change(api: Api, backup: Path) -> None:
    await restored(api)
    await api.data("POST", "/access/roles", roleid="Keeper", privs="VM.Backup,VM.Audit")
    keeper = await api.token("keeper@pve", grants={**SPACE, **NET, "/vms/100": "Keeper"})
    values = {"vmid": "100", "ostemplate": VOLID, "restore": "1", "force": "1"}
    assert (await call(keeper, "POST", LXC, **values, memory="512")).status_code == 403
    answer = await call(keeper, "POST", LXC, **values)
    assert await api.wait(answer.json()["data"]) == "OK"
    backup.write_bytes(backup_tar(CONFIG.replace("unprivileged: 1\n", "")))
    refused = await call(keeper, "POST", LXC, **values)
    assert (refused.status_code, refused.json()["message"].strip()) == (403, "Permission check failed (/, Sys.Modify)")


async def test_a_pool_gives_no_right_over_what_is_there(api: Api, backup: Path) -> None:
    assert backup.exists()
    await restored(api)
    await api.data("POST", "/pools", poolid="team")
    member = await api.token("member@pve", grants={**SPACE, **NET, "/pool/team": "PVEAdmin"})
    values = {"ostemplate": VOLID, "restore": "1", "pool": "team"}
    assert (await call(member, "POST", LXC, **values, vmid="100", force="1")).status_code == 403


async def test_a_container_that_comes_meanwhile_is_not_replaced(
    api: Api, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backup.exists()
    await api.data("POST", "/pools", poolid="team")
    grants = {**SPACE, **NET, "/pool/team": "PVEAdmin", "/vms/100": "PVEVMUser"}
    member = await api.token("member@pve", grants=grants)
    guests = api.services.rooms.guests
    really = new_guests.open_backup

    async def slowly(*asked: Any) -> Any:
        await guests.create(Guest(101, "lxc", "pve", {"hostname": "theirs"}))
        return await really(*asked)

    monkeypatch.setattr(new_guests, "open_backup", slowly)
    values = {"vmid": "101", "ostemplate": VOLID, "restore": "1", "force": "1", "pool": "team"}
    answer = await call(member, "POST", LXC, **values)
    assert "already exists" in answer.json()["message"]
    assert (await guests.get(101)).config == {"hostname": "theirs"}
