"""Retention and backup jobs as clients see them."""

from pathlib import Path

import pytest

from bastide.model.guest import Guest
from framework.api import Api, call
from framework.rooms import TEMPLATE

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
    assert [row.get("rule") for row in rows] == ["keep-last", None]
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


JOBS = "/cluster/backup"
NIGHTLY = {"id": "nightly", "vmid": "100,101", "schedule": "mon..fri 02:30", "storage": "local"}


@pytest.mark.anyio
async def test_a_jobs_life(api: Api) -> None:
    assert await api.data("GET", JOBS) == []
    await api.data("POST", JOBS, **NIGHTLY, **{"prune-backups": "keep-last=3", "fleecing": "1,storage=local"})
    (row,) = await api.data("GET", JOBS)
    assert row.pop("next-run") > 0
    expected = {
        **NIGHTLY, "type": "vzdump", "mode": "snapshot", "enabled": 1,
        "prune-backups": {"keep-last": 3}, "fleecing": {"enabled": 1, "storage": "local"},
    }  # fmt: skip
    assert row == expected
    assert (await api.data("GET", f"{JOBS}/nightly"))["schedule"] == "mon..fri 02:30"
    await api.data("PUT", f"{JOBS}/nightly", vmid="100", comment="the first", delete="prune-backups,fleecing")
    changed = await api.data("GET", f"{JOBS}/nightly")
    assert (changed["vmid"], changed["comment"]) == ("100", "the first")
    assert not {"prune-backups", "fleecing"} & changed.keys()
    await api.data("PUT", f"{JOBS}/nightly", all=1, enabled=0)
    changed = await api.data("GET", f"{JOBS}/nightly")
    assert (changed["all"], "vmid" in changed, "next-run" in changed) == (1, False, False)
    await api.data("DELETE", f"{JOBS}/nightly")
    assert (await call(api.root, "GET", f"{JOBS}/nightly")).status_code == 500
    assert await api.services.rooms.store.list("scheduled/") == []


@pytest.mark.anyio
async def test_an_id_is_made_up_and_an_old_time_becomes_a_schedule(api: Api) -> None:
    await api.data("POST", JOBS, all=1, starttime="2:30", dow="sat,sun")
    (row,) = await api.data("GET", JOBS)
    assert row["id"].startswith("backup-")
    assert (row["schedule"], "starttime" in row, "dow" in row) == ("sat,sun 2:30", False, False)
    await api.data("PUT", f"{JOBS}/{row['id']}", starttime="3:00")
    assert (await api.data("GET", f"{JOBS}/{row['id']}"))["schedule"] == "3:00"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"schedule": "25:00", "all": 1}, "schedule"),
        ({"all": 1}, "schedule"),
        ({"schedule": "daily"}, "vmid"),
        ({"schedule": "daily", "all": 1, "vmid": "100"}, "all"),
        ({"schedule": "daily", "all": 1, "storage": "nowhere"}, "storage"),
        ({"schedule": "daily", "all": 1, "fleecing": "1,storage=nowhere"}, "fleecing"),
        ({"schedule": "daily", "pool": "nobody"}, "pool"),
        ({"schedule": "daily", "all": 1, "node": "elsewhere"}, "node"),
        ({"schedule": "daily", "all": 1, "dow": "mon"}, "dow"),
        ({"schedule": "daily", "all": 1, "id": "1x"}, "id"),
        ({"schedule": "daily", "vmid": "7"}, "vmid"),
        ({"schedule": "daily", "all": 1, "prune-backups": "keep-often=1"}, "prune-backups"),
        ({"schedule": "daily", "all": 1, "sometimes": "1"}, "sometimes"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, values: dict[str, str], key: str) -> None:
    answer = await call(api.root, "POST", JOBS, **values)
    assert answer.status_code == 400
    assert key in answer.json()["errors"]
    assert await api.data("GET", JOBS) == []


@pytest.mark.anyio
async def test_a_change_is_checked_with_what_is_there(api: Api) -> None:
    await api.data("POST", JOBS, **NIGHTLY)
    assert (await call(api.root, "POST", JOBS, **NIGHTLY)).status_code == 500
    for values, key in (
        ({"schedule": "never"}, "schedule"),
        ({"delete": "vmid"}, "vmid"),
        ({"delete": "id"}, "delete"),
        ({"delete": "schedule"}, "schedule"),
        ({"delete": "comment", "comment": "x"}, "comment"),
        ({"delete": "storage", "protected": 1}, "protected"),
    ):
        answer = await call(api.root, "PUT", f"{JOBS}/nightly", **values)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [key])
    await api.data("PUT", f"{JOBS}/nightly", **{"notes-template": "{{guestname}}"})
    assert (await api.data("GET", f"{JOBS}/nightly"))["schedule"] == NIGHTLY["schedule"]


@pytest.mark.anyio
async def test_who_may_make_jobs(api: Api) -> None:
    one = await api.token(grants={"/": "PVEAdmin"})
    job = {"vmid": "100", "schedule": "daily", "id": "theirs"}
    assert (await call(one, "GET", JOBS)).status_code == 200
    assert (await call(one, "POST", JOBS, **job)).status_code == 403  # Sys.Modify
    await api.data("PUT", "/access/acl", path="/", users="ada@pve", roles="Administrator")
    for key in ("script", "tmpdir", "dumpdir"):
        answer = await call(one, "POST", JOBS, **job, **{key: "/srv/x"})
        assert "Only root" in answer.json()["errors"][key]
    assert (await call(one, "POST", JOBS, **job)).status_code == 200
    await api.data("PUT", f"{JOBS}/theirs", script="/srv/x")
    assert (await call(one, "PUT", f"{JOBS}/theirs", delete="script")).status_code == 400
    assert (await call(one, "DELETE", f"{JOBS}/theirs")).status_code == 400
    await api.data("DELETE", f"{JOBS}/theirs")


@pytest.mark.anyio
async def test_where_a_jobs_backups_go_is_for_those_who_may_prune_there(api: Api, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await api.data("POST", "/pools", poolid="team")
    await api.data("POST", "/storage", storage="other", type="dir", path=str(other), content="backup,images")
    await api.data("POST", "/access/roles", roleid="Planner", privs="Sys.Modify,Datastore.AllocateSpace")
    one = await api.token(grants={"/": "Planner", "/storage/other": "Administrator"})
    job = {"vmid": "100", "schedule": "daily", "id": "theirs", "storage": "other"}

    async def refused(method: str, path: str, **values: str) -> str:
        answer = await call(one, method, path, **values)
        return str(answer.json()["message"]).strip() if answer.status_code == 403 else ""

    lacking = "Permission check failed (/storage/local, Datastore.Allocate)"
    assert await refused("POST", JOBS, **{**job, "storage": "local"}) == lacking
    assert await refused("POST", JOBS, vmid="100", schedule="daily") == lacking
    assert await refused("POST", JOBS, **job) == ""
    assert await refused("PUT", f"{JOBS}/theirs", storage="local") == lacking
    assert await refused("PUT", f"{JOBS}/theirs", delete="storage") == lacking, "it goes to local then"
    assert await refused("PUT", f"{JOBS}/theirs", pool="team") == "Permission check failed (/pool/team, VM.Backup)"
    assert await refused("PUT", f"{JOBS}/theirs", bwlimit="1024", fleecing="1,storage=local") == ""
    await api.data("PUT", f"{JOBS}/theirs", dumpdir=str(other))
    answer = await call(one, "PUT", f"{JOBS}/theirs", storage="other")
    assert list(answer.json()["errors"]) == ["dumpdir"], "it would be forgotten"
    assert await refused("PUT", f"{JOBS}/theirs", comment="ours") == ""


@pytest.mark.anyio
async def test_what_is_gone_meanwhile_keeps_nobody_from_other_changes(api: Api) -> None:
    await api.data("POST", "/pools", poolid="team")
    await api.data("POST", JOBS, id="team", pool="team", schedule="daily")
    await api.data("DELETE", "/pools/team")
    await api.data("PUT", f"{JOBS}/team", enabled=0)
    answer = await call(api.root, "PUT", f"{JOBS}/team", pool="team")
    assert list(answer.json()["errors"]) == ["pool"]


@pytest.mark.anyio
async def test_what_a_job_saves_and_who_is_left_out(api: Api) -> None:
    guests = api.services.rooms.guests
    mounts = {
        "rootfs": "local:100/vm-100-disk-0.subvol,size=1G",
        "mp0": "local:100/vm-100-disk-1.subvol,mp=/a,backup=1",
        "mp1": "local:100/vm-100-disk-2.subvol,mp=/b",
        "mp2": "/srv/shared,mp=/c",
    }
    await guests.create(Guest(100, "lxc", "pve", {"hostname": "one", **mounts}))
    drives = {
        "scsi0": "local:101/vm-101-disk-0.raw",
        "virtio1": "local:101/vm-101-disk-1.raw,backup=0",
        "ide2": "none,media=cdrom",
    }
    await guests.create(Guest(101, "qemu", "pve", {"name": "two", **drives}))
    await api.data("POST", JOBS, **{**NIGHTLY, "vmid": "100,101,555"})
    children = (await api.data("GET", f"{JOBS}/nightly/included_volumes"))["children"]
    assert [(child["id"], child["type"]) for child in children] == [(100, "lxc"), (101, "qemu"), (555, "unknown")]
    assert [(one["id"], one["included"], one["reason"]) for one in children[0]["children"]] == [
        ("rootfs", 1, "rootfs"), ("mp0", 1, "enabled"), ("mp1", 0, "disabled"), ("mp2", 0, "not a volume"),
    ]  # fmt: skip
    assert [(one["id"], one["included"]) for one in children[1]["children"]] == [("scsi0", 1), ("virtio1", 0)]
    missed = "/cluster/backup-info/not-backed-up"
    assert await api.data("GET", missed) == []
    await api.data("PUT", f"{JOBS}/nightly", vmid="101")
    assert await api.data("GET", missed) == [{"vmid": 100, "type": "lxc", "name": "one"}]
    await api.data("PUT", f"{JOBS}/nightly", enabled=0)
    assert [row["vmid"] for row in await api.data("GET", missed)] == [100, 101]


@pytest.mark.anyio
async def test_nobody_is_told_of_guests_that_they_may_not_see(api: Api) -> None:
    for vmid in (100, 101):
        await api.services.rooms.guests.create(Guest(vmid, "lxc", "pve", {"rootfs": f"local:{vmid}/x.subvol"}))
    await api.data("POST", JOBS, **NIGHTLY, enabled=0)
    await api.data("POST", "/access/roles", roleid="Looker", privs="Sys.Audit")
    one = await api.token(grants={"/vms/101": "PVEAuditor"})
    await api.data("PUT", "/access/acl", path="/", users="ada@pve", roles="Looker", propagate=0)
    saved = (await call(one, "GET", f"{JOBS}/nightly/included_volumes")).json()["data"]["children"]
    assert [row["id"] for row in saved] == [101]
    missed = (await call(one, "GET", "/cluster/backup-info/not-backed-up")).json()["data"]
    assert [row["vmid"] for row in missed] == [101]


@pytest.mark.anyio
async def test_the_moments_of_a_schedule(api: Api) -> None:
    path = "/cluster/jobs/schedule-analyze"
    rows = await api.data("GET", path, schedule="0:30 utc", starttime=1_700_000_000, iterations=2)
    assert rows == [
        {"timestamp": 1_700_008_200, "utc": "Wed Nov 15 00:30:00 2023"},
        {"timestamp": 1_700_094_600, "utc": "Thu Nov 16 00:30:00 2023"},
    ]
    assert len(await api.data("GET", path, schedule="*/5")) == 10
    assert await api.data("GET", path, schedule="2015-10-21") == []
    refused = await call(api.root, "GET", path, schedule="sometimes")
    assert "'sometimes' is not a weekday" in refused.json()["errors"]["schedule"]


@pytest.mark.anyio
async def test_a_purged_guest_is_in_no_job_any_more(api: Api) -> None:
    """Without `purge` in the removal a later guest of the vmid is saved by jobs that nobody gave it."""
    for vmid in (300, 301):
        made = await api.data("POST", "/nodes/pve/lxc", vmid=vmid, ostemplate=TEMPLATE, unprivileged=1)
        assert await api.wait(made) == "OK"
    await api.data("POST", "/cluster/backup", id="both", schedule="daily", vmid="300,301", storage="local")
    await api.data("POST", "/cluster/backup", id="alone", schedule="daily", vmid="300", storage="local")
    await api.data("POST", "/cluster/backup", id="every", schedule="daily", all=1, exclude="300", storage="local")
    assert await api.wait(await api.data("DELETE", "/nodes/pve/lxc/300", purge=1)) == "OK"
    jobs = {row["id"]: row.get("vmid") for row in await api.data("GET", "/cluster/backup")}
    assert jobs == {"both": "301", "every": None}
