"""Containers saved in a borg repository and brought back, and what a killed daemon leaves of that."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.evil import put_template
from framework.host import Host
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def vault(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str]]:
    """A storage of the type borg: its name, its folder, its passphrase."""
    path, name = tmp_path_factory.mktemp("vault"), f"vault{os.getpid()}"
    made = host.cli_json("storage", "add", name, "borg", f"path={path}")
    yield name, path, made["config"]["passphrase"]
    host.cli("storage", "rm", name, "--yes")


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[int]:
    """A running container with some files."""
    template, vmid = put_template(host, "local", busybox_tar()), host.new_vmid()
    values = {"unprivileged": 1, "memory": 64, "hostname": f"kept{vmid}", "rootfs": "local:0.125"}
    host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, start=1, **values))
    host.execute(vmid, "sh", "-c", "echo one > /root/data; chown 1000:33 /root/data; mkfifo /root/pipe")
    yield vmid
    host.wait(host.delete(host.path(vmid), force=1, purge=1))


def test_there_and_back(host: Host, guest: int, vault: tuple[str, Path, str]) -> None:
    name, path, passphrase = vault
    host.cli("backup", str(guest), "--storage", name, "--notes", "first")
    host.execute(guest, "sh", "-c", "echo two > /root/data")
    time.sleep(1.1)  # a backup's name tells its second
    host.cli("backup", str(guest), "--storage", name)
    rows = host.cli_json("backups", "--storage", name)
    assert [(row["vmid"], row["format"], row.get("notes")) for row in rows[-2:]].count((guest, "borg", "first")) == 1
    first = next(row["volid"] for row in rows if row.get("notes") == "first")
    copy = host.new_vmid()
    host.cli("restore", first, "--as", str(copy), "--unique", "--start")
    told = "cat /root/data; stat -c %u:%g /root/data; test -p /root/pipe && echo pipe; cat /etc/hostname"
    assert host.execute(copy, "sh", "-c", told).split()[:3] == ["one", "1000:33", "pipe"]
    host.wait(host.delete(host.path(copy), force=1))
    assert host.cli_json("storage", "key", name)["encryption-key"].startswith("BORG_KEY ")
    # Without us: as docs/borg.md tells.
    environment = {**os.environ, "BORG_PASSPHRASE": passphrase, "BORG_BASE_DIR": str(path.parent / "own")}
    environment |= {"BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    argv = ["borg", "extract", "--stdout", f"{path}/repository::{first.rpartition('/')[2]}", "root/root/data"]
    assert subprocess.run(argv, env=environment, check=True, capture_output=True).stdout == b"one\n"


def test_a_killed_daemon(host: Host, guest: int, vault: tuple[str, Path, str]) -> None:
    name, path, _ = vault
    before = {row["volid"] for row in host.cli_json("backups", "--storage", name)}
    host.execute(guest, "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=24 2>/dev/null")
    host.post(f"/nodes/{host.node}/vzdump", vmid=guest, storage=name, bwlimit=2048)
    deadline = time.monotonic() + 60 * PATIENCE
    while not (path / "repository/lock.exclusive").exists():
        assert time.monotonic() < deadline, "borg did not begin"
        time.sleep(0.05)
    host.kill()
    host.start()
    assert host.get(host.path(guest, "/status/current"))["status"] == "running"
    assert {row["volid"] for row in host.cli_json("backups", "--storage", name)} == before
    host.cli("backup", str(guest), "--storage", name)
    assert len(host.cli_json("backups", "--storage", name)) == len(before) + 1
    assert not list((path / "about").glob("*.saving"))
    assert not list((path / "views").iterdir())


def test_a_vm_with_its_disk(host: Host, vault: tuple[str, Path, str]) -> None:
    name = vault[0]
    vmid, copy = host.new_vmid(), host.new_vmid()
    host.wait(
        host.post(f"/nodes/{host.node}/qemu", vmid=vmid, name=f"disk{vmid}", memory=64, scsi0="local:1,format=raw")
    )
    images = host.root / "state/storage/images"
    (disk,) = (images / str(vmid)).glob("*.raw")
    with disk.open("r+b") as file:
        for place in (0, 5, 700, 1023):
            file.seek(place << 20)
            file.write(os.urandom(1 << 20))
    host.cli("backup", str(vmid), "--storage", name)
    (volid,) = [row["volid"] for row in host.cli_json("backups", "--storage", name) if row["vmid"] == vmid]
    text = host.get(f"/nodes/{host.node}/vzdump/extractconfig", volume=volid)
    assert f"name: disk{vmid}" in text
    host.cli("restore", volid, "--as", str(copy))
    (restored,) = (path for path in (images / str(copy)).iterdir() if path.is_file())
    raw = host.root / "restored.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(restored), str(raw)], check=True)
    assert raw.read_bytes() == disk.read_bytes()
    for guest in (vmid, copy):
        host.wait(host.delete(f"/nodes/{host.node}/qemu/{guest}"))
