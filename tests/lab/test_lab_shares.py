"""Shares of real servers, mounted by the kernel's clients: NFS, SMB and an iSCSI target, all in the lab itself."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from framework.lab import INSIDE, Lab

ADDRESS = "127.0.0.1"
IQN = "iqn.2003-01.org.example:disk"
PASSWORD = "p,=w geheim"
SMB = f"""[global]
server role = standalone server
interfaces = {ADDRESS}/8
map to guest = bad user
[media]
path = /srv/smb
comment = Films and music
read only = no
force user = root
"""


def get(lab: Lab, path: str, *values: str) -> Any:
    """What the API answers."""
    return json.loads(lab.run("bastide", "api", "get", path, *values).stdout)


def status(lab: Lab, storage: str) -> Any:
    """A storage's row."""
    return get(lab, f"/nodes/lab/storage/{storage}/status")


def mounted(lab: Lab, storage: str) -> str:
    """What is mounted for a storage: its source, type and options in a line, or nothing."""
    done = lab.run(
        "findmnt", "--noheadings", "--output", "SOURCE,FSTYPE,OPTIONS", f"/var/lib/bastide/mnt/{storage}", check=False
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def nfs(installed: Lab) -> Iterator[Lab]:
    """An NFS server that exports /srv/nfs."""
    installed.run("mkdir", "-p", "/srv/nfs")
    line = f"/srv/nfs {ADDRESS}(rw,no_root_squash,sync,no_subtree_check,fsid=1)\n"
    installed.run("dd", "of=/etc/exports", "status=none", stdin=line.encode())
    installed.run("systemctl", "restart", "nfs-server")
    installed.run("exportfs", "-ra")
    yield installed
    installed.run("systemctl", "stop", "nfs-server")


@pytest.fixture(scope="module")
def smb(installed: Lab) -> Iterator[Lab]:
    """An SMB server with a share for one user."""
    installed.run("mkdir", "-p", "/srv/smb")
    installed.run("dd", "of=/etc/samba/smb.conf", "status=none", stdin=SMB.encode())
    installed.run("smbpasswd", "-s", "-a", "root", stdin=f"{PASSWORD}\n{PASSWORD}\n".encode())
    installed.run("dd", "of=/root/password", "status=none", stdin=PASSWORD.encode())
    installed.run("systemctl", "restart", "smbd")
    yield installed
    installed.run("systemctl", "stop", "smbd")


@pytest.fixture(scope="module")
def san(installed: Lab) -> Iterator[Lab]:
    """An iSCSI target with a disk of 64 MiB."""
    installed.run("truncate", "--size=64M", "/srv/lun")
    installed.run("systemctl", "restart", "tgt")
    tgt = ("tgtadm", "--lld", "iscsi", "--op")
    installed.run(*tgt, "new", "--mode", "target", "--tid", "1", "--targetname", IQN)
    installed.run(*tgt, "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--backing-store", "/srv/lun")
    installed.run(*tgt, "bind", "--mode", "target", "--tid", "1", "--initiator-address", "ALL")
    yield installed
    installed.run("systemctl", "stop", "tgt")


def _holds_files(lab: Lab, storage: str, behind: str) -> None:
    path = f"/nodes/lab/storage/{storage}/content"
    lab.run("bastide", "api", "create", path, "vmid=999", "filename=vm-999-disk-0.qcow2", "size=64M", "format=qcow2")
    lab.run("bastide", "api", "create", path, "vmid=999", "filename=vm-999-disk-1.raw", "size=64M", "format=raw")
    assert sorted(row["format"] for row in get(lab, path)) == ["qcow2", "raw"]
    assert len(lab.run("ls", f"{behind}/images/999").stdout.split()) == 2
    for name in ("vm-999-disk-0.qcow2", "vm-999-disk-1.raw"):
        lab.run("bastide", "storage", "rm-volume", f"{storage}:999/{name}", "--yes")
    assert get(lab, path) == []


def _is_away_and_holds_up_nobody(lab: Lab, storage: str) -> None:
    """While a server says nothing its storage is inactive within 10 s, and all else answers as ever."""
    # The client's own start and the way through ssh are in it.
    started = time.monotonic()
    get(lab, "/version")
    usual = time.monotonic() - started
    started = time.monotonic()
    assert status(lab, storage)["active"] == 0
    assert time.monotonic() - started < 10 + 2 * usual + 2
    started = time.monotonic()
    assert status(lab, "local")["active"] == 1
    assert {row["storage"]: row["active"] for row in get(lab, "/nodes/lab/storage")}[storage] == 0
    assert time.monotonic() - started < 4 * usual + 4


def _comes_back(lab: Lab, storage: str) -> None:
    deadline = time.monotonic() + 240
    while status(lab, storage)["active"] == 0:
        assert time.monotonic() < deadline
        time.sleep(2)


def _killed(lab: Lab) -> None:
    """Kill the daemon and wait for the next one, which systemd starts."""
    lab.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "bastide")
    _await_daemon(lab)


def _await_daemon(lab: Lab) -> None:
    deadline = time.monotonic() + 120
    while lab.run("bastide", "ls", check=False).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_an_nfs_export_is_a_storage(nfs: Lab) -> None:
    assert {"path": "/srv/nfs", "options": ADDRESS} in get(nfs, "/nodes/lab/scan/nfs", f"server={ADDRESS}")
    nfs.run("bastide", "storage", "add", "nas", "nfs", f"server={ADDRESS}", "export=/srv/nfs", "options=soft",
            "content=images,iso,rootdir")  # fmt: skip
    source, kind, options = mounted(nfs, "nas").split(None, 2)
    assert (source, kind) == (f"{ADDRESS}:/srv/nfs", "nfs4")
    assert {"nosuid", "nodev", "soft"} <= set(options.split(","))
    _holds_files(nfs, "nas", "/srv/nfs")
    nfs.run("systemctl", "restart", "bastide")
    _await_daemon(nfs)
    assert status(nfs, "nas")["active"] == 1
    nfs.run("umount", "/var/lib/bastide/mnt/nas")
    assert status(nfs, "nas")["active"] == 1, "it is mounted again when it is needed"
    nfs.run("bastide", "storage", "rm", "nas", "--yes")
    assert mounted(nfs, "nas") == ""


def test_an_nfs_server_that_is_away_is_told_in_time(nfs: Lab) -> None:
    nfs.run("bastide", "storage", "add", "far", "nfs", f"server={ADDRESS}", "export=/srv/nfs", "content=iso")
    drop = "table inet away {\n chain in {\n type filter hook input priority 0; tcp dport 2049 drop;\n }\n}\n"
    try:
        nfs.run("nft", "--file", "-", stdin=drop.encode())
        _is_away_and_holds_up_nobody(nfs, "far")
        # The next daemon starts all the same, and it can be let go.
        _killed(nfs)
        assert status(nfs, "far")["active"] == 0
        nfs.run("bastide", "storage", "rm", "far", "--yes")
        assert mounted(nfs, "far") == ""
    finally:
        nfs.run("nft", "delete", "table", "inet", "away")
    nfs.run("bastide", "storage", "add", "far", "nfs", f"server={ADDRESS}", "export=/srv/nfs", "content=iso")
    _comes_back(nfs, "far")
    nfs.run("bastide", "storage", "rm", "far", "--yes")


def test_scans_find_what_real_servers_tell(installed: Lab) -> None:
    pytest_there = (f"{INSIDE}/.venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = installed.run(*pytest_there, "tests/system/test_scan_servers.py", cwd=INSIDE, seconds=900)
    assert "skipped" not in done.stdout


def test_an_smb_share_is_a_storage(smb: Lab) -> None:
    where = (f"server={ADDRESS}", "username=root", f"password={PASSWORD}")
    assert {"share": "media", "description": "Films and music"} in get(smb, "/nodes/lab/scan/cifs", *where)
    add = ("bastide", "storage", "add", "win", "cifs", f"server={ADDRESS}", "share=media", "username=root",
           "content=images,iso", "--password-file")  # fmt: skip
    smb.run("dd", "of=/root/wrong", "status=none", stdin=b"wrong")
    assert smb.run(*add, "/root/wrong", check=False).returncode != 0
    assert smb.run("ls", "/var/lib/bastide/secrets/storage").stdout == ""
    smb.run(*add, "/root/password")
    source, kind, options = mounted(smb, "win").split(None, 2)
    assert (source, kind) == (f"//{ADDRESS}/media", "cifs")
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert PASSWORD not in smb.run("cat", "/proc/mounts", "/etc/mtab").stdout
    assert PASSWORD not in smb.run("journalctl", "--no-pager", "--unit", "bastide").stdout
    _holds_files(smb, "win", "/srv/smb")
    smb.run("systemctl", "kill", "--signal=STOP", "smbd")
    try:
        _is_away_and_holds_up_nobody(smb, "win")
        _killed(smb)
        assert status(smb, "win")["active"] == 0
    finally:
        smb.run("systemctl", "kill", "--signal=CONT", "smbd")
    _comes_back(smb, "win")
    smb.run("bastide", "storage", "rm", "win", "--yes")
    assert mounted(smb, "win") == ""


def test_a_disk_of_an_iscsi_target_is_a_vms(san: Lab) -> None:
    assert [row["target"] for row in get(san, "/nodes/lab/scan/iscsi", f"portal={ADDRESS}")] == [IQN]
    san.run("bastide", "storage", "add", "san", "iscsi", f"portal={ADDRESS}", f"target={IQN}")
    deadline = time.monotonic() + 60
    while not (rows := get(san, "/nodes/lab/storage/san/content")):
        assert time.monotonic() < deadline
        time.sleep(1)
    (row,) = rows
    assert (row["size"], row["format"]) == (64 << 20, "raw")
    san.run("systemctl", "kill", "--signal=STOP", "tgt")
    try:
        # The kernel asks a silent target every 5 s and gives it as long to answer.
        deadline = time.monotonic() + 60
        while status(san, "san")["active"] == 1:
            assert time.monotonic() < deadline
        _is_away_and_holds_up_nobody(san, "san")
    finally:
        san.run("systemctl", "kill", "--signal=CONT", "tgt")
    _comes_back(san, "san")
    san.run("bastide", "api", "create", "/nodes/lab/qemu", "vmid=998", "memory=64", f"scsi0={row['volid']}")
    assert row["volid"] in get(san, "/nodes/lab/qemu/998/config")["scsi0"]
    assert san.run("bastide", "storage", "rm", "san", "--yes", check=False).returncode != 0, "a VM uses it"
    san.run("bastide", "rm", "998", "--force", "--yes")
    assert len(get(san, "/nodes/lab/storage/san/content")) == 1, "the disk is the target's"
    san.run("bastide", "storage", "rm", "san", "--yes")
    assert IQN not in san.run("iscsiadm", "--mode", "session", check=False).stdout
