"""A container's restore against zstd and tar by hand, from the same archive and to the same disk.

sudo ./bastide test -m bench -s tests/bench/test_bench_container_restores.py
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.conftest import Report, median
from framework.disposable import mounted
from framework.host import Host
from framework.roots import debian_tar

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = 3
SIZE = 24 << 30  # sparse
BAR = 0.85
COPIES = 3
SMALL = 20_000
CONFIG = "arch: amd64\nhostname: shop\nmemory: 512\nostype: debian\nrootfs: t:s-0,size=8G\nunprivileged: 1\n"
_ATTRIBUTES = ("--acls", "--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*")


@pytest.fixture(scope="module")
def folder(host: Host) -> Iterator[Path]:
    """A storage `snap` on btrfs, with room for what is done by hand beside it."""
    with ExitStack() as stack:
        below = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp"))
        place = stack.enter_context(mounted("btrfs", Path(below), SIZE))
        host.post("/storage", storage="snap", type="btrfs", path=str(place / "s"), content="rootdir")
        yield place
        host.delete("/storage/snap")


def _archive(host: Host, folder: Path) -> tuple[str, Path, int]:
    """A backup of some 1 GB: a Debian root, copies of its programs, many small files, large ones; its plain size."""
    root = folder / "packed"
    (root / "etc/vzdump").mkdir(parents=True)
    subprocess.run(["tar", "-xpf", str(debian_tar()), "-C", str(root), "--exclude=./dev/*"], check=True)
    for number in range(COPIES):
        subprocess.run(["cp", "-a", str(root / "usr"), str(root / f"srv/usr{number}")], check=True)
    (root / "srv/small").mkdir()
    for number in range(SMALL):
        (root / f"srv/small/f{number}").write_text(f"{number} " * 3)
    subprocess.run(["dd", "if=/dev/urandom", f"of={root}/srv/noise", "bs=1M", "count=100", "status=none"], check=True)
    (root / "srv/plain").write_bytes(b"x" * (100 << 20))
    (root / "etc/vzdump/pct.conf").write_text(CONFIG)
    target = host.root / "state/storage/dump/vzdump-lxc-105-2026_11_23-01_02_03.tar.zst"
    target.parent.mkdir(exist_ok=True)
    pack = ["tar", "-cf", "-", "--sparse", "--numeric-owner", *_ATTRIBUTES, "-C", str(root), "./etc/vzdump/pct.conf",
            "--anchored", "--exclude=./etc/vzdump", "."]  # fmt: skip
    with target.open("wb") as file:
        tar = subprocess.Popen(pack, stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-q", "-c", "-T1"], stdin=tar.stdout, stdout=file, check=True)
        assert tar.wait() == 0
    size = int(subprocess.run(["du", "-sb", root], capture_output=True, check=True, text=True).stdout.split()[0])
    shutil.rmtree(root)
    subprocess.run(["sync", "-f", str(folder)], check=True)
    return f"local:backup/{target.name}", target, size


def _by_hand(archive: Path, folder: Path) -> float:
    """Seconds until everything is in a subvolume and on the disk."""
    root = folder / "by-hand"
    began = time.perf_counter()
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(root)], check=True)
    unpack = ["tar", "-xpf", "-", "--numeric-owner", *_ATTRIBUTES, "-C", str(root), "--exclude=./etc/vzdump"]
    zstd = subprocess.Popen(["zstd", "-q", "-d", "-c", str(archive)], stdout=subprocess.PIPE)
    subprocess.run(unpack, stdin=zstd.stdout, check=True)
    assert zstd.wait() == 0
    subprocess.run(["sync", "-f", str(root)], check=True)
    taken = time.perf_counter() - began
    subprocess.run(["btrfs", "-q", "subvolume", "delete", str(root)], check=True)
    return taken


def _ours(host: Host, volid: str) -> float:
    vmid = host.new_vmid()
    began = time.perf_counter()
    upid = host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=volid, restore=1, storage="snap")
    while host.get(f"/bastide/tasks/{upid}", wait=30)["status"] != "stopped":
        pass
    taken = time.perf_counter() - began
    host.wait(upid)
    host.wait(host.delete(host.path(vmid)))
    return taken


def test_a_container_comes_back_as_fast_as_tar_can(host: Host, folder: Path, report: Report) -> None:
    volid, archive, size = _archive(host, folder)
    hand, ours = [], []
    for _ in range(ROUNDS):
        hand.append(_by_hand(archive, folder))
        ours.append(_ours(host, volid))
    ratio = median(hand) / median(ours)
    what = f"restore of a container of {size / 1e9:.1f} GB"
    seconds = f"{median(ours):.1f} s", f"{median(hand):.1f} s"
    report.add(what, *seconds, f"{ratio:.0%}", f"at least {BAR:.0%}", met=ratio >= BAR)
    assert ratio >= BAR
