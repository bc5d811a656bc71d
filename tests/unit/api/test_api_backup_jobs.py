"""Retention and backup jobs as clients see them."""

import pytest

from framework.api import Api, call

PLACE = "/nodes/pve/storage/local/prunebackups"
OLD, NEW = "vzdump-lxc-100-2026_01_01-01_00_00.tar.zst", "vzdump-lxc-100-2026_01_02-01_00_00.tar.zst"


def put_backups(api: Api) -> None:
    folder = api.services.rooms.layout.local_storage / "dump"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OLD, NEW):
        (folder / name).write_bytes(b"a backup")


@pytest.mark.anyio
async def test_a_preview_and_a_pruning(api: Api) -> None:
    put_backups(api)
    rows = await api.data("GET", PLACE, **{"prune-backups": "keep-last=1"})
    assert [(row["volid"], row["mark"], row["type"], row["vmid"]) for row in rows] == [
        (f"local:backup/{NEW}", "keep", "lxc", 100),
        (f"local:backup/{OLD}", "remove", "lxc", 100),
    ]
    upid = await api.data("DELETE", PLACE, **{"prune-backups": "keep-last=1", "vmid": 100})
    assert ":prunebackups:100@local:root@pam:" in upid
    assert await api.wait(upid) == "OK"
    assert [row["volid"] for row in await api.data("GET", PLACE, **{"prune-backups": "keep-last=1"})] == [
        f"local:backup/{NEW}"
    ]
    refused = await call(api.root, "GET", PLACE)
    assert refused.status_code == 400
    assert "prune-backups" in refused.json()["errors"]


@pytest.mark.anyio
async def test_who_may_prune(api: Api) -> None:
    put_backups(api)
    keep = {"prune-backups": "keep-last=1"}
    one = await api.token(grants={"/storage/local": "PVEDatastoreUser"})
    assert (await call(one, "GET", PLACE, **keep)).status_code == 200
    assert (await call(one, "DELETE", PLACE, **keep)).status_code == 403
    assert (await call(one, "DELETE", PLACE, vmid=100, **keep)).status_code == 403
    await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMAdmin")
    assert (await call(one, "DELETE", PLACE, **keep)).status_code == 403
    assert (await call(one, "DELETE", PLACE, vmid=100, **keep)).status_code == 200
