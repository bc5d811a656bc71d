"""`backups` and its commands: what they ask the API for, and print."""

import pytest

BACKUP = "local:backup/vzdump-lxc-100-2026_11_23-01_02_03.tar.zst"
OTHER = "nas:backup/vzdump-qemu-101-2026_11_23-01_02_03.vma.zst"
OWN = "/bastide/backup"
PRUNE = "/nodes/pve1/storage/nas/prunebackups"


@pytest.fixture
def guests(daemon):
    daemon.guest(100, "web")
    daemon.on("GET", "/cluster/resources", [{"vmid": 100, "name": "web"}])
    daemon.on("GET", "/nodes/pve1/storage", [{"storage": "local"}, {"storage": "nas"}])
    daemon.on("GET", "/nodes/pve1/storage/local/content", [{"volid": BACKUP, "vmid": 100, "ctime": 2, "size": 2048}])
    daemon.on("GET", "/nodes/pve1/storage/nas/content", [{"volid": OTHER, "vmid": 101, "ctime": 2, "size": 1}])
    return daemon


def test_the_list_needs_no_command(run, guests):
    for words in ([], ["ls"], ["--storage", "local"], ["ls", "--storage", "local"], ["--json"]):
        ended = run("backups", *words)
        assert ended.code == 0, ended.err
        assert BACKUP in ended.out
    assert run("backups", "web").code == 0
    assert guests.posted("GET", "/nodes/pve1/storage/nas/content") == {"content": "backup", "vmid": "100"}
    assert "verify" in run("backups", "--help").out


def test_the_list_tells_how_the_last_test_went(run, guests):
    row = {"volid": BACKUP, "vmid": 100, "ctime": 2, "size": 2048}
    for ok, word in ((1, " ok "), (0, " failed ")):
        tried = {"restore-test": {"ok": ok, "started": 1, "upid": "UPID"}}
        guests.on("GET", "/nodes/pve1/storage/local/content", [{**row, **tried}])
        assert word in run("backups", "--storage", "local").out


def test_all_storages_are_verified(run, guests):
    guests.task("POST", f"{OWN}/verify", log=("verifying", "1 of 1 backups are whole"))
    ended = run("backups", "verify", "--outdated-after", "30")
    assert ended.code == 0, ended.err
    asked = [params for verb, path, params in guests.calls if (verb, path) == ("POST", f"{OWN}/verify")]
    assert asked == [{"storage": "local", "outdated-after": "30"}, {"storage": "nas", "outdated-after": "30"}]
    assert "nas: 1 of 1 backups are whole" in ended.out


def test_a_storage_that_is_away_is_not_verified_in_silence(run, guests, refusal):
    guests.on("GET", "/nodes/pve1/storage/nas/content", refusal(500, "the share is away"))
    guests.task("POST", f"{OWN}/verify", end="the share is away")
    assert run("backups", "verify").code == 1
    assert guests.posted("POST", f"{OWN}/verify")["storage"] == "nas"


def test_damage_is_told(run, guests):
    end = "1 of 1 backups are damaged or cannot be read: see the log"
    guests.task("POST", f"{OWN}/verify", end=end, log=(f"ERROR: '{BACKUP}': it ends too early",))
    ended = run("backups", "verify", "latest:web")
    assert ended.code == 1
    assert guests.posted("POST", f"{OWN}/verify") == {"storage": "local", "volume": BACKUP}
    assert f"local: '{BACKUP}': it ends too early" in ended.out


def row(upid: str, **values: object) -> dict[str, object]:
    return {
        "backup": BACKUP, "vmid": 100, "kind": "lxc", "started": 1, "duration": 3.5, "ok": True, "step": "done",
        "upid": upid, "output": "systemd: running", **values,
    }  # fmt: skip


def test_a_restore_is_tried_and_told(run, guests):
    upid = guests.task("POST", f"{OWN}/tests")
    guests.on("GET", f"{OWN}/tests", [row(upid), row("UPID:another")])
    ended = run("backups", "test", "web", "--command", "true", "--from", "nas", "--timeout", "20")
    assert ended.code == 0, ended.err
    assert guests.posted("POST", f"{OWN}/tests") == {
        "vmid": "100", "storage": "local", "backup-storage": "nas", "command": "true", "timeout": "20",
    }  # fmt: skip
    assert ended.out.count(BACKUP) == 1
    assert "systemd: running" in ended.out
    assert run("backups", "test", "--no-wait").out.strip() == upid
    assert guests.posted("POST", f"{OWN}/tests")["all"] == "1"


def test_a_failed_test_is_a_failure(run, guests):
    upid = guests.task("POST", f"{OWN}/tests", end="1 of 1 restore tests failed: see the log")
    guests.on("GET", f"{OWN}/tests", [row(upid, ok=False, step="probe", reason="the command ended with 3")])
    ended = run("backups", "test")
    assert ended.code == 1
    assert "failed: probe" in ended.out
    assert "the command ended with 3" in ended.out
    assert "failed: probe" in run("backups", "tests", "web").out
    assert guests.calls[-1][2] == {"vmid": "100"}


def test_old_backups_go_or_would(run, guests):
    rows = [{"volid": OTHER, "ctime": 2, "mark": "keep"}, {"volid": "nas:backup/old", "ctime": 1, "mark": "remove"}]
    guests.on("GET", PRUNE, rows)
    guests.task("DELETE", PRUNE)
    ended = run("backups", "prune", "--storage", "nas", "--keep", "1", "--dry-run")
    assert "would go" in ended.out
    assert not guests.made("DELETE", PRUNE)
    ended = run("backups", "prune", "web", "--storage", "nas", "--keep", "keep-daily=7")
    assert "removed" in ended.out
    assert guests.posted("DELETE", PRUNE) == {"prune-backups": "keep-daily=7", "vmid": "100"}


def test_backups_are_removed(run, guests):
    content = "/nodes/pve1/storage/{}/content/{}"
    for volid in (BACKUP, OTHER):
        guests.task("DELETE", content.format(volid.partition(":")[0], volid))
    ended = run("backups", "rm", "latest:web", OTHER.rpartition("/")[2], "--json")
    assert (ended.code, ended.json) == (0, [BACKUP, OTHER]), ended.err


def test_a_backups_notes_and_protection_change(run, guests):
    path = f"/nodes/pve1/storage/local/content/{BACKUP}"
    guests.on("PUT", path, None)
    assert run("backups", "set", "latest:web", "--no-protected", "--notes", "old").code == 0
    assert guests.posted("PUT", path) == {"protected": "0", "notes": "old"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", BACKUP], "--no-protected"),
        (["rm", "local:100/vm-100-disk-0.raw"], "not named as backups are"),
        (["rm", "/tmp/vzdump-lxc-100-2026_11_23-01_02_03.tar"], "no backup on a storage"),
        (["set", "local:iso/vzdump-lxc-100-2026_11_23-01_02_03.tar", "--protected"], "no backup on a storage"),
    ],
)
def test_what_is_no_backup_is_left_alone(run, guests, words, said):
    ended = run("backups", *words)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_a_job_tells_whom_it_leaves_out(run, guests):
    guests.on("GET", "/cluster/backup", [{"id": "nightly", "all": 1, "exclude": "102,103"}])
    for path in (f"{OWN}/verify-jobs", f"{OWN}/test-jobs"):
        guests.on("GET", path, [])
    assert "all but 102,103" in run("backups", "jobs").out


def test_jobs_of_all_kinds(run, guests):
    guests.on("GET", "/cluster/backup", [{"id": "nightly", "schedule": "2:30", "next-run": 5, "vmid": "100,101"}])
    guests.on("GET", f"{OWN}/verify-jobs", [{"id": "weekly", "schedule": "sat", "storage": "nas", "enabled": 0}])
    guests.on("GET", f"{OWN}/test-jobs", [])
    ended = run("backups", "jobs")
    assert "nightly" in ended.out
    assert "disabled" in ended.out
    assert [job["kind"] for job in run("backups", "jobs", "--json").json] == ["backup", "verify"]


def test_a_job_is_made(run, guests):
    guests.on("POST", "/cluster/backup", None)
    guests.on("GET", "/cluster/backup", [{"id": "nightly", "next-run": 5}])
    ended = run("backups", "schedule", "nightly", "mon..fri 02:30", "web", "--keep", "3", "--repeat-missed")
    assert ended.code == 0, ended.err
    assert guests.posted("POST", "/cluster/backup") == {
        "id": "nightly", "schedule": "mon..fri 02:30", "vmid": "100", "storage": "local", "compress": "zstd",
        "prune-backups": "keep-last=3", "repeat-missed": "1",
    }  # fmt: skip
    assert ended.out.startswith("nightly: next on ")


@pytest.mark.parametrize(
    ("words", "path", "asked"),
    [
        (["--kind", "verify", "--storage", "nas"], f"{OWN}/verify-jobs", {"storage": "nas"}),
        (
            ["--kind", "test", "--command", "true"],
            f"{OWN}/test-jobs",
            {"storage": "local", "command": "true", "all": "1"},
        ),
    ],
)
def test_other_kinds_of_jobs(run, guests, words, path, asked):
    guests.on("POST", path, None)
    guests.on("GET", path, [{"id": "weekly"}])
    assert run("backups", "schedule", "weekly", "sat", *words).code == 0
    assert guests.posted("POST", path) == {"id": "weekly", "schedule": "sat", **asked}


@pytest.mark.parametrize(
    "words", [["--kind", "verify", "web"], ["--command", "x"], ["--kind", "test", "--keep", "3"], ["--kind", "copy"]]
)
def test_what_does_not_go_together(run, guests, words):
    assert run("backups", "schedule", "x1", "daily", *words).code == 2


def test_a_job_goes_by_its_name(run, guests):
    for path in ("/cluster/backup", f"{OWN}/verify-jobs", f"{OWN}/test-jobs"):
        guests.on("GET", path, [{"id": "weekly"}] if "verify" in path else [])
    guests.on("DELETE", f"{OWN}/verify-jobs/weekly", None)
    assert run("backups", "unschedule", "weekly").code == 0
    assert guests.made("DELETE", f"{OWN}/verify-jobs/weekly")
    assert run("backups", "unschedule", "nightly").code == 3


def test_a_passphrase_is_not_forgotten_unasked(run, daemon):
    daemon.on("DELETE", "/storage/vault", None)
    daemon.on("GET", "/storage/vault", {"storage": "vault", "type": "borg"})
    ended = run("storage", "rm", "vault")
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert run("storage", "rm", "vault", "--yes").code == 0
    daemon.on("GET", "/storage/vault", {"storage": "vault", "type": "dir"})
    assert run("storage", "rm", "vault").code == 0
