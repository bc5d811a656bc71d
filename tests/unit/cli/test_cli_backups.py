"""Backups: what the commands ask the API for, print, and refuse."""

from types import SimpleNamespace

import pytest

from bastide.cli import completing
from bastide.cli.backups import summary
from bastide.cli.session import Session

CT_BACKUP = "local:backup/vzdump-lxc-100-2026_11_23-01_02_03.tar.zst"
VM_BACKUP = "nas:backup/vzdump-qemu-101-2026_11_23-01_02_03.vma.zst"
OLD = "local:backup/vzdump-lxc-100-2026_11_22-01_02_03.tar.zst"
LOG = (
    "INFO: starting new backup job: vzdump 100",
    "INFO: Starting Backup of VM 100 (lxc)",
    "INFO: the guest stood still for 0.123 seconds",
    "INFO: creating vzdump archive '/dump/vzdump-lxc-100-2026_11_23-01_02_03.tar.zst'",
    "INFO: archive file size: 1.2 GiB",
    "INFO: Finished Backup of VM 100 (00:01:05)",
    "INFO: Starting Backup of VM 101 (qemu)",
    "ERROR: Backup of VM 101 failed - the disk is gone",
)
VZDUMP = "/nodes/pve1/vzdump"


@pytest.fixture
def guests(daemon):
    daemon.guest(100, "web")
    daemon.guest(101, "db", kind="qemu")
    daemon.on("GET", f"{VZDUMP}/defaults", {"storage": "local"})
    daemon.on("GET", "/cluster/resources", [{"vmid": 100, "name": "web"}, {"vmid": 101, "name": "db"}])
    daemon.on("GET", "/nodes/pve1/storage", [{"storage": "local"}, {"storage": "nas"}])
    rows = [
        {"volid": OLD, "vmid": 100, "ctime": 1, "size": 1},
        {"volid": CT_BACKUP, "vmid": 100, "ctime": 2, "size": 2048, "protected": 1, "notes": "before\nmore",
         "verification": {"state": "ok"}},
    ]  # fmt: skip
    daemon.on("GET", "/nodes/pve1/storage/local/content", rows)
    daemon.on("GET", "/nodes/pve1/storage/nas/content", [{"volid": VM_BACKUP, "vmid": 101, "ctime": 2, "size": 1}])
    return daemon


def test_what_a_log_tells():
    (row,) = summary(list(LOG))
    assert row == {
        "vmid": 100, "type": "lxc", "backup": "/dump/vzdump-lxc-100-2026_11_23-01_02_03.tar.zst", "size": "1.2 GiB",
        "seconds": 65, "frozen": "0.123 seconds",
    }  # fmt: skip


def test_a_backup_is_asked_for_and_told(run, guests):
    guests.task("POST", VZDUMP, log=LOG[:6])
    ended = run("backup", "web", "101", "--keep", "3", "--limit", "1.5", "--notes", "a\nb", "--exclude-path", "/srv/x",
                "--exclude-path", "*.tmp", "--mode", "stop", "--stopwait", "3", "--threads", "2")  # fmt: skip
    assert ended.code == 0, ended.err
    assert guests.posted("POST", VZDUMP) == {
        "vmid": "100,101", "storage": "local", "mode": "stop", "stopwait": "3", "compress": "zstd",
        "zstd": "2", "bwlimit": "1536",
        "exclude-path": ["/srv/x", "*.tmp"], "notes-template": "a\\nb", "prune-backups": "keep-last=3",
    }  # fmt: skip
    assert f"web (100): {CT_BACKUP}  1.2 GiB in 1m 5s" in ended.out
    assert "1.2 GiB in 1m 5s, held for 0.123 seconds" in ended.out
    assert run("backup", "web", "--json").json["backups"][0]["vmid"] == 100


def test_all_guests_but_some(run, guests):
    guests.task("POST", VZDUMP)
    assert run("backup", "--all", "--exclude", "db", "--storage", "nas", "--compress", "none", "--no-prune").code == 0
    assert guests.posted("POST", VZDUMP) == {
        "all": "1", "exclude": "101", "storage": "nas", "mode": "snapshot", "compress": "0", "remove": "0",
    }  # fmt: skip


def test_all_guests_are_told_by_their_names(run, guests):
    guests.task("POST", VZDUMP, log=LOG[:6])
    assert f"web (100): {CT_BACKUP}" in run("backup", "--all").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mode", "halt"], "snapshot"),
        (["--compress", "xz"], "gzip"),
        (["--keep", "few"], "'few' is neither a number nor rules"),
        (["--keep", "-1"], "'-1' is neither a number nor rules"),
    ],
)
def test_a_wrong_value_is_told_with_what_would_do(run, guests, words, said):
    ended = run("backup", "web", *words)
    assert (ended.code, said in ended.err) == (2, True), ended.err


@pytest.mark.parametrize("words", [[], ["web", "--all"], ["--all", "--pool", "p"], ["web", "--exclude", "db"]])
def test_which_guests_has_to_be_said_once(run, guests, words):
    assert run("backup", *words).code == 2


def test_a_failure_is_told_with_its_guest(run, guests):
    guests.task("POST", VZDUMP, end="job errors", log=LOG)
    ended = run("backup", "web", "db")
    assert ended.code == 1
    assert "web (100): local:backup/" in ended.out
    assert "Backup of VM 101 failed - the disk is gone" in ended.err


def test_backups_are_listed(run, guests):
    lines = run("backups").out.splitlines()
    assert [line.split()[-1] for line in lines[2:]] == [CT_BACKUP, OLD, VM_BACKUP]
    assert "web (100)" in lines[2]
    assert "before" in lines[2]
    assert "more" not in lines[2]
    assert [row["volid"] for row in run("backups", "--storage", "nas", "--json").json] == [VM_BACKUP]
    run("backups", "web")
    assert guests.posted("GET", "/nodes/pve1/storage/local/content") == {"content": "backup", "vmid": "100"}


def test_a_storage_that_does_not_answer_hides_no_other(run, guests, refusal):
    guests.on("GET", "/nodes/pve1/storage/nas/content", refusal(500, "the share is away"))
    ended = run("backups")
    assert (ended.code, CT_BACKUP in ended.out, "the share is away" in ended.err) == (0, True, True)
    assert run("backups", "--storage", "nas").code == 1


def test_a_container_is_restored_as_another_one(run, guests):
    guests.task("POST", "/nodes/pve1/lxc")
    guests.on("GET", "/cluster/nextid", "102")
    guests.guest(102, "web")
    ended = run("restore", "latest:web", "--as", "new", "--unique", "--storage", "nas", "--unprivileged", "--start")
    assert ended.code == 0, ended.err
    assert guests.posted("POST", "/nodes/pve1/lxc") == {
        "vmid": "102", "ostemplate": CT_BACKUP, "restore": "1", "unique": "1", "storage": "nas", "unprivileged": "1",
        "start": "1",
    }  # fmt: skip
    assert ended.out == "web (102)\n"


def test_a_guest_is_replaced_when_that_is_said(run, guests):
    guests.task("POST", "/nodes/pve1/qemu")
    ended = run("restore", VM_BACKUP)
    assert (ended.code, "--as ID" in ended.err, "--force" in ended.err) == (6, True, True)
    assert run("restore", VM_BACKUP, "--force").code == 2, "nobody to ask"
    assert run("restore", VM_BACKUP, "--force", "--yes", "--live").code == 0
    assert guests.posted("POST", "/nodes/pve1/qemu") == {
        "vmid": "101", "archive": VM_BACKUP, "force": "1", "live-restore": "1",
    }  # fmt: skip


def test_a_guest_that_runs_is_not_asked_about(run, guests):
    guests.on("GET", "/cluster/resources", [{"vmid": 101, "name": "db", "status": "running"}])
    ended = run("restore", VM_BACKUP, "--force", "--yes")
    assert (ended.code, "stop it with: bastide stop" in ended.err) == (6, True), ended.err


def test_a_name_alone_finds_its_backup(run, guests):
    guests.task("POST", "/nodes/pve1/lxc")
    guests.guest(103, "x")
    assert run("restore", OLD.rpartition("/")[2], "--as", "103").code == 0
    assert guests.posted("POST", "/nodes/pve1/lxc")["ostemplate"] == OLD
    ended = run("restore", "vzdump-lxc-100-2020_01_01-00_00_00.tar")
    assert (ended.code, "bastide backups" in ended.err) == (3, True)


def test_a_name_that_means_no_guest_or_two_is_told(run, guests, refusal):
    guests.on("GET", "/bastide/guests/twin", refusal(400, "no", {"guest": "two are named 'twin'"}))
    guests.on("GET", "/cluster/resources", [{"vmid": 103, "name": "twin"}, {"vmid": 104, "name": "twin"}])
    ended = run("restore", "latest:twin")
    assert (ended.code, "give the id, latest:103 or latest:104" in ended.err) == (2, True), ended.err
    ended = run("backups", "twin")
    assert (ended.code, "give the id, 103 or 104" in ended.err) == (2, True), ended.err
    ended = run("restore", "latest:gone")
    assert (ended.code, "one that is gone goes by its id: latest:100" in ended.err) == (3, True), ended.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["local:iso/a.iso"], 2),
        ([CT_BACKUP, "--as", "x"], 2),
        ([CT_BACKUP, "--as", "105", "--live"], 7),
        ([VM_BACKUP, "--as", "105", "--privileged"], 7),
    ],
)
def test_what_cannot_be_restored_so(run, guests, words, code):
    assert run("restore", *words).code == code


def test_completion_knows_backups_and_guests(guests, root):
    session = Session(root=str(root))
    ctx = SimpleNamespace(find_root=lambda: SimpleNamespace(obj=session))
    guests.on("GET", "/nodes", [{"node": "pve1"}])
    assert [text for text, _ in completing.backups(ctx, "latest:d")] == ["latest:db"]
    assert [text for text, _ in completing.backups(ctx, "nas:")] == [VM_BACKUP]
    session.close()


def test_a_file_comes_out_of_a_backup(run, guests, tmp_path):
    where = "/nodes/pve1/storage/local/file-restore"
    guests.on("GET", f"{where}/list", [
        {"filepath": "L2V0Yw==", "text": "etc", "type": "d", "leaf": 0},
        {"filepath": "L2E=", "text": "a", "type": "f", "leaf": 1, "size": 2048, "mtime": 1},
    ])  # fmt: skip
    listed = run("restore-file", "latest:web")
    assert listed.code == 0, listed.err
    assert "etc/" in listed.out
    assert "2 KiB" in listed.out
