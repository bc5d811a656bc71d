"""Real containers saved and brought back by the command line, and what a killed daemon leaves of a backup."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.evil import put_template
from framework.host import ApiFailure, Host, TaskFailed
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[int]:
    """A running container with some files."""
    template, vmid = put_template(host, "local", busybox_tar()), host.new_vmid()
    values = {"unprivileged": 1, "memory": 64, "hostname": f"saved{vmid}", "rootfs": "local:0.125"}
    host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, start=1, **values))
    written = (
        "echo one > /root/data; mkdir /srv/cache; echo x > /srv/cache/x; chown 1000:33 /root/data; echo y > /tmp/y"
    )
    host.execute(vmid, "sh", "-c", written)
    yield vmid
    host.wait(host.delete(host.path(vmid), force=1, purge=1))


def _dump(host: Host) -> Path:
    return host.root / "state/storage/dump"


def test_there_and_back_by_names(host: Host, guest: int) -> None:
    name = f"saved{guest}"
    told = host.cli(
        "backup", name, "--exclude-path", "/srv/cache", "--notes", "of {{guestname}}", "--limit", "500"
    ).stdout
    assert f"{name} ({guest}): local:backup/vzdump-lxc-{guest}-" in told
    rows = host.cli_json("backups", name)
    assert [(row["vmid"], row["notes"], row["format"]) for row in rows] == [(guest, f"of {name}", "tar.zst")]
    volid = rows[0]["volid"]
    host.execute(guest, "sh", "-c", "echo two > /root/data")
    copy = host.new_vmid()
    host.cli("restore", f"latest:{name}", "--as", str(copy), "--name", f"copy{copy}", "--unique", "--start")
    looked = "cat /root/data; stat -c %u:%g /root/data; ls /srv /tmp; hostname"
    assert host.execute(copy, "sh", "-c", looked).split() == ["one", "1000:33", "/srv:", "/tmp:", f"copy{copy}"]
    assert host.execute(guest, "cat", "/root/data").strip() == "two"
    refused = host.cli("restore", volid, "--force", "--yes", check=False)
    assert (refused.returncode != 0, "running" in refused.stderr) == (True, True)
    host.cli("stop", name)
    host.cli("restore", volid, "--force", "--yes", "--start")
    assert host.execute(guest, "cat", "/root/data").strip() == "one"
    host.wait(host.delete(host.path(copy), force=1))


def test_a_task_of_several_with_a_script(host: Host, guest: int, tmp_path: Path) -> None:
    script, told = tmp_path / "hook", tmp_path / "told"
    script.write_text(f'#!/bin/sh\necho "$*" >> {told}\n')
    script.chmod(0o700)
    folder = tmp_path / "dumps"
    folder.mkdir()
    upid = host.post(
        f"/nodes/{host.node}/vzdump",
        vmid=guest,
        mode="stop",
        compress="gzip",
        dumpdir=folder,
        script=script,
        stopwait=1,
    )
    log = host.wait(upid)
    assert "INFO: Backup job finished successfully" in log
    assert sorted(path.name.partition(".")[2] for path in folder.iterdir()) == ["log", "tar.gz"]
    assert [line.split()[0] for line in told.read_text().splitlines()] == [
        "job-init", "job-start", "backup-start", "pre-stop", "pre-restart", "post-restart", "backup-end", "log-end",
        "job-end",
    ]  # fmt: skip
    assert host.get(host.path(guest, "/status/current"))["status"] == "running"
    (archive,) = folder.glob("*.tar.gz")
    text = host.get(f"/nodes/{host.node}/vzdump/extractconfig", volume=str(archive))
    assert f"hostname: saved{guest}" in text


def test_a_killed_daemon_leaves_no_half_archive(host: Host, guest: int) -> None:
    before = sorted(path.name for path in _dump(host).iterdir())
    host.execute(guest, "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=8 2>/dev/null")
    host.post(f"/nodes/{host.node}/vzdump", vmid=guest, compress="0", bwlimit=1024)
    incoming, until = host.root / "state/storage/.incoming", time.monotonic() + 60 * PATIENCE
    while not any(path.stat().st_size for path in incoming.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
    host.kill()
    host.start()
    assert sorted(path.name for path in _dump(host).iterdir()) == before
    assert list(incoming.iterdir()) == []
    status = host.get(host.path(guest, "/status/current"))
    assert (status["status"], "lock" in status) == ("running", False)
    host.cli("backup", str(guest), "--compress", "none")
    assert (
        len(host.cli_json("backups", str(guest)))
        == len([name for name in before if f"-{guest}-" in name and name.endswith(".zst")]) + 1
    )


def test_one_that_is_stopped_undoes_its_work(host: Host, guest: int) -> None:
    before = sorted(path.name for path in _dump(host).iterdir())
    upid = host.post(f"/nodes/{host.node}/vzdump", vmid=guest, compress="0", bwlimit=512)
    incoming, until = host.root / "state/storage/.incoming", time.monotonic() + 60 * PATIENCE
    while not any(path.stat().st_size for path in incoming.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert host.get(host.path(guest, "/status/current"))["lock"] == "backup"
    assert host.post(f"/nodes/{host.node}/vzdump", stop=1) == "OK"
    with contextlib.suppress(TaskFailed, ApiFailure):
        host.wait(upid)
    assert sorted(path.name for path in _dump(host).iterdir()) == before
    assert list(incoming.iterdir()) == []
    assert "lock" not in host.get(host.path(guest, "/status/current"))
