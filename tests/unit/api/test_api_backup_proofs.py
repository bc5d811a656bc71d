"""Verification and restore tests as clients see them."""

from pathlib import Path

import pytest

from bastide.model.backup_proof import RestoreTestOptions
from bastide.operations.backup import proofs
from framework.api import Api, call

pytestmark = pytest.mark.anyio

OWN = "/bastide/backup"


async def test_a_verifications_job(api: Api) -> None:
    await api.data("POST", f"{OWN}/verify-jobs", id="weekly", storage="local", schedule="sat 3:00")
    (row,) = await api.data("GET", f"{OWN}/verify-jobs")
    assert row.pop("next-run") > 0
    assert row == {
        "id": "weekly", "storage": "local", "schedule": "sat 3:00", "enabled": 1, "repeat-missed": 0,
        "outdated-after": 30,
    }  # fmt: skip
    await api.data("PUT", f"{OWN}/verify-jobs/weekly", enabled=0, **{"outdated-after": 0})
    (row,) = await api.data("GET", f"{OWN}/verify-jobs")
    assert (row["enabled"], row["outdated-after"], "next-run" in row) == (0, 0, False)
    refused = await call(api.root, "PUT", f"{OWN}/verify-jobs/weekly", schedule="x")
    assert "schedule" in refused.json()["errors"]
    await api.data("DELETE", f"{OWN}/verify-jobs/weekly")
    assert await api.data("GET", f"{OWN}/verify-jobs") == []


async def test_a_restore_tests_job(api: Api) -> None:
    await api.data("POST", f"{OWN}/test-jobs", id="monthly", all=1, schedule="monthly", command="true\nfalse")
    (row,) = await api.data("GET", f"{OWN}/test-jobs")
    assert (row["command"], row["timeout"], row["storage"]) == ("true\nfalse", 600, "local")
    await api.data("PUT", f"{OWN}/test-jobs/monthly", vmid="100", delete="all,command")
    (row,) = await api.data("GET", f"{OWN}/test-jobs")
    assert (row["vmid"], row.get("all"), "command" in row) == ("100", 0, False)
    refused = await call(api.root, "PUT", f"{OWN}/test-jobs/monthly", storage="nowhere")
    assert list(refused.json()["errors"]) == ["storage"]
    await api.data("DELETE", f"{OWN}/test-jobs/monthly")


async def test_what_there_is_to_do_and_what_was_done(api: Api) -> None:
    rooms = api.services.rooms
    missing = await call(api.root, "POST", f"{OWN}/tests", all=1)
    assert "a backup to try does not exist" in missing.json()["message"]
    unsaid = await call(api.root, "POST", f"{OWN}/tests")
    assert "vmid" in unsaid.json()["errors"]
    elsewhere = await call(api.root, "POST", f"{OWN}/verify", storage="local", volume="other:backup/x.tar")
    assert "volume" in elsewhere.json()["errors"]
    upid = await api.data("POST", f"{OWN}/verify", storage="local")
    assert ":verify:local:root@pam:" in upid
    assert await api.wait(upid) == "OK"
    for number, vmid in enumerate((100, 101, 100)):
        await proofs.tested(
            rooms, proofs.RestoreTest("local:backup/x", vmid, "lxc", number, 1.5, ok=True, step="done", upid="UPID")
        )
    assert [row["started"] for row in await api.data("GET", f"{OWN}/tests")] == [2, 1, 0]
    assert [row["started"] for row in await api.data("GET", f"{OWN}/tests", vmid=100, limit=1)] == [2]
    assert await api.data("GET", f"{OWN}/tests", storage="other") == []


async def test_who_may(api: Api) -> None:
    one = await api.token(grants={"/": "PVEAuditor"})
    assert (await call(one, "GET", f"{OWN}/tests")).status_code == 200
    for method, path, values in (
        ("POST", "verify", {"storage": "local"}),
        ("POST", "tests", {"all": 1}),
        ("POST", "verify-jobs", {"id": "xx", "storage": "local", "schedule": "daily"}),
        ("POST", "test-jobs", {"id": "xx", "all": 1, "schedule": "daily"}),
        ("DELETE", "test-jobs/xx", {}),
        ("PUT", "verify-jobs/xx", {"enabled": 0}),
    ):
        assert (await call(one, method, f"{OWN}/{path}", **values)).status_code == 403, path  # type: ignore[arg-type]


async def test_what_a_job_makes_needs_room_where_it_will_be(api: Api, tmp_path: Path) -> None:
    """Also where it will be because nobody says another place any more."""
    await api.data("POST", "/access/roles", roleid="Tester", privs="Sys.Modify,VM.Allocate,VM.Backup,VM.Console")
    (tmp_path / "second").mkdir()
    await api.data("POST", "/storage", storage="second", type="dir", path=str(tmp_path / "second"), content="images")
    one = await api.token(grants={"/": "Tester", "/storage/second": "PVEDatastoreUser"})
    job = {"id": "theirs", "all": 1, "schedule": "daily"}
    lacking = "Permission check failed (/storage/local, Datastore.AllocateSpace)"

    async def refused(method: str, path: str, **values: object) -> str:
        answer = await call(one, method, f"{OWN}/test-jobs{path}", **values)
        return str(answer.json()["message"]).strip() if answer.status_code == 403 else ""

    assert await refused("POST", "", **job) == lacking
    assert await refused("POST", "", **job, storage="second") == ""
    assert await refused("PUT", "/theirs", storage="local") == lacking
    assert await refused("PUT", "/theirs", delete="storage") == lacking
    assert await refused("PUT", "/theirs", timeout=20) == ""


def test_a_timeout_is_some_time() -> None:
    assert RestoreTestOptions.parse({"all": 1}).timeout == 600
