"""Containers' backups as Proxmox VE makes them, restored into real volumes and run."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.host import ApiFailure, Host, TaskFailed
from framework.roots import busybox_tar

pytestmark = pytest.mark.system

CONFIG = """\
#The shop%3A moved here
#
#by night
arch: amd64
cores: 1
hostname: shop
memory: 64
mp0: tank:subvol-105-disk-1,mp=/srv/data,backup=1,size=32M
mp1: tank:subvol-105-disk-2,mp=/srv/data/deep,backup=1,size=16M
mp2: tank:subvol-105-disk-3,mp=/scratch,size=16M
onboot: 0
ostype: alpine
rootfs: tank:subvol-105-disk-0,size=64M
swap: 0
unprivileged: 1

[pve:pending]
memory: 2048

[before]
memory: 32
rootfs: tank:subvol-105-disk-0,size=64M
snaptime: 1700000000
"""
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service+ep


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An archive written as vzdump(1) has tar(1) write it: the configuration, then the root with its mount points."""
    work = tmp_path_factory.mktemp("proxmox")
    root, extra = work / "root", work / "extra"
    root.mkdir()
    subprocess.run(["tar", "xp", "-C", root], input=busybox_tar(), check=True)
    data = root / "srv/data"
    (data / "deep").mkdir(parents=True)
    (root / "scratch").mkdir()
    for place in (data, data / "deep"):
        (place / "file").write_text(f"in {place.name}")
        os.chown(place / "file", 1000, 1001)
    os.link(data / "file", data / "twin")
    (data / "hole").write_bytes(b"")
    os.truncate(data / "hole", 1 << 30)
    os.setxattr(root / "bin/busybox", "security.capability", CAPABILITY)
    os.setxattr(data / "file", "user.note", b"kept")
    os.mkfifo(data / "pipe")
    (data / "über\nmut").write_text("odd")
    (extra / "etc/vzdump").mkdir(parents=True)
    (extra / "etc/vzdump/pct.conf").write_text(CONFIG)
    (extra / "etc/vzdump/pct.fw").write_text("[OPTIONS]\n\nenable: 1\n")
    tar = work / "archive.tar"
    subprocess.run(
        ["tar", "cpf", tar, "--totals", "--one-file-system", "-p", "--sparse", "--numeric-owner", "--acls", "--xattrs",
         "--xattrs-include=user.*", "--xattrs-include=security.capability", "--warning=no-file-ignored",
         "--warning=no-xattr-write", "--one-file-system", f"--directory={extra}", "./etc/vzdump/pct.conf",
         "./etc/vzdump/pct.fw", f"--directory={root}", "--no-anchored", "--exclude=lost+found", "--anchored",
         "--exclude=./tmp/?*", "--exclude=./var/tmp/?*", "--exclude=./var/run/?*.pid", "./", "./srv/data",
         "./srv/data/deep"],
        check=True, capture_output=True,
    )  # fmt: skip
    yield tar
    shutil.rmtree(work)


def put(host: Host, packed: Path, number: int, compressor: str = "") -> str:
    """The archive on the storage of a host, of container 105; its volume id."""
    ending = {"": "", "zstd": ".zst", "gzip": ".gz", "lzop": ".lzo"}[compressor]
    file = host.root / f"state/storage/dump/vzdump-lxc-105-2026_11_23-01_02_{number:02}.tar{ending}"
    file.parent.mkdir(exist_ok=True)
    with packed.open("rb") as source, file.open("wb") as sink:
        subprocess.run([compressor, "-c"] if compressor else ["cat"], stdin=source, stdout=sink, check=True)
    return f"local:backup/{file.name}"


def restore(host: Host, vmid: int, archive: str, **options: object) -> str:
    values = {"vmid": vmid, "ostemplate": archive, "restore": 1, **options}
    return host.wait(host.post(f"/nodes/{host.node}/lxc", **values))


@pytest.mark.parametrize("compressor", ["zstd", "gzip", "lzop", ""])
def test_a_backup_of_proxmox_ve_runs_here(host: Host, packed: Path, compressor: str) -> None:
    if compressor and shutil.which(compressor) is None:
        pytest.fail(f"{compressor} is not installed")
    vmid = host.new_vmid()
    archive = put(host, packed, 1, compressor)
    restore(host, vmid, archive, start=1)
    try:
        config = host.get(host.path(vmid, "/config"))
        assert config["description"] == "The shop: moved here\n\nby night"
        assert (config["memory"], config["hostname"], config["unprivileged"]) == (64, "shop", 1)
        assert {config[key].partition(",")[0].partition(":")[0] for key in ("rootfs", "mp0", "mp1", "mp2")} == {"local"}
        assert "size=32M" in config["mp0"]
        shown = host.execute(vmid, "sh", "-c", "cat /srv/data/file /srv/data/deep/file; ls /etc/vzdump || echo none")
        assert shown == "in datain deepnone\n"
        stats = host.execute(
            vmid, "stat", "-c", "%u %g %h %s %a", "/srv/data/file", "/srv/data/twin", "/srv/data/hole", "/bin/setuid"
        )
        size = len((Path("/bin/busybox")).read_bytes())
        assert stats.splitlines()[:3] == ["1000 1001 2 7 644", "1000 1001 2 7 644", "0 0 1 1073741824 644"]
        assert stats.splitlines()[3] == f"0 0 1 {size} 4755"
        mounts = host.execute(vmid, "cat", "/proc/mounts")
        assert {"/srv/data", "/srv/data/deep", "/scratch"} <= {line.split()[1] for line in mounts.splitlines()}
    finally:
        host.act(vmid, "stop")
        host.wait(host.delete(host.path(vmid)))


def test_what_is_kept_of_files(host: Host, packed: Path) -> None:
    """Into one folder, where they can be looked at: places that are given go before the backup's."""
    vmid = host.new_vmid()
    told = restore(host, vmid, put(host, packed, 2), rootfs="local:0", unprivileged=0)
    assert "what was in mp0, mp1, mp2 goes into the volumes that were asked for" in told
    root = host.root / f"state/storage/images/{vmid}/vm-{vmid}-disk-0.subvol"
    assert os.getxattr(root / "bin/busybox", "security.capability")[4:8] == CAPABILITY[4:8]
    assert os.getxattr(root / "srv/data/file", "user.note") == b"kept"
    assert (root / "srv/data/hole").stat().st_blocks == 0
    assert (root / "srv/data/pipe").is_fifo()
    assert (root / "srv/data/über\nmut").read_text() == "odd"
    assert (root / "srv/data/file").stat().st_uid == 1000
    assert not (root / "etc/vzdump").exists()
    # The same archive over it, for a guest that is not privileged.
    restore(host, vmid, put(host, packed, 2), rootfs="local:0", force=1, unprivileged=1)
    assert not root.exists()
    assert (root.with_name(f"vm-{vmid}-disk-1.subvol") / "srv/data/file").stat().st_uid >= 1000
    restore(host, vmid, put(host, packed, 2), force=1, unique=1, start=1)
    assert host.execute(vmid, "cat", "/srv/data/deep/file") == "in deep"
    with pytest.raises(ApiFailure, match="can't overwrite running container"):
        restore(host, vmid, put(host, packed, 2), force=1)
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))


def test_what_does_not_fit_leaves_the_old_one(host: Host, packed: Path) -> None:
    vmid = host.new_vmid()
    restore(host, vmid, put(host, packed, 3))
    before = host.get(host.path(vmid, "/config"))
    with pytest.raises(TaskFailed, match="the volume is full"):
        restore(host, vmid, put(host, packed, 3), force=1, rootfs="local:0.001")
    assert host.get(host.path(vmid, "/config")) == before
    rows = host.get(f"/nodes/{host.node}/storage/local/content", vmid=vmid, content="rootdir")
    assert len(rows) == 4
    host.act(vmid, "start")
    assert host.execute(vmid, "cat", "/srv/data/file") == "in data"
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))


def test_ours_has_the_form_of_proxmox_ves(host: Host, packed: Path) -> None:
    vmid, again = host.new_vmid(), host.new_vmid()
    restore(host, vmid, put(host, packed, 4))
    host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, compress="zstd", storage="local"))
    found = next((host.root / "state/storage/dump").glob(f"vzdump-lxc-{vmid}-*.tar.zst"))
    names = subprocess.run(["tar", "tf", found], check=True, capture_output=True, text=True).stdout.splitlines()
    assert "./etc/vzdump/pct.conf" in names[:3]
    assert {"./", "./srv/data/file", "./srv/data/deep/"} <= set(names)
    config = subprocess.run(["tar", "xOf", found, "./etc/vzdump/pct.conf"], check=True, capture_output=True, text=True)
    lines = config.stdout.splitlines()
    assert lines[:3] == ["#The shop%3A moved here", "#", "#by night"]
    assert {"memory: 64", "hostname: shop", "unprivileged: 1"} <= set(lines)
    restore(host, again, f"local:backup/{found.name}", start=1)
    assert host.execute(again, "cat", "/srv/data/file", "/srv/data/deep/file") == "in datain deep"
    assert host.execute(again, "stat", "-c", "%h %u", "/srv/data/twin") == "2 1000\n"
    host.act(again, "stop")
    for each in (vmid, again):
        host.wait(host.delete(host.path(each)))
