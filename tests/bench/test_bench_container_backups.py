"""A container's backup against tar and zstd by hand, with the same settings and to the same disk.

sudo ./bastide test -m bench -s tests/bench/test_bench_container_backups.py
"""

import re
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

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = 3
SIZE = 12 << 30  # sparse
BAR = 0.85
# Some 1 GB: a Debian root and a copy of its programs, many small files, and large ones of which half can be compressed.
FILL = """
for n in 1 2 3; do cp -a /usr /srv/usr$n; done
mkdir /srv/small; cd /srv/small
i=0; while [ $i -lt 20000 ]; do echo "$i $i $i" > f$i; i=$((i+1)); done
dd if=/dev/urandom of=/srv/noise bs=1M count=100 2>/dev/null
dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\0' 'x' > /srv/plain
sync
"""


@pytest.fixture(scope="module")
def folder(host: Host) -> Iterator[Path]:
    """A storage `snap` on btrfs."""
    with ExitStack() as stack:
        below = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp"))
        place = stack.enter_context(mounted("btrfs", Path(below), SIZE))
        host.post("/storage", storage="snap", type="btrfs", path=str(place / "s"), content="rootdir")
        yield place / "s"
        host.delete("/storage/snap")


def _by_hand(live: Path, target: Path) -> float:
    """Seconds of a backup of a snapshot, whose files the kernel has in no cache either."""
    began = time.perf_counter()
    root = live.with_name("by-hand")
    subprocess.run(["btrfs", "-q", "subvolume", "snapshot", "-r", str(live), str(root)], check=True)
    gently = ["ionice", "-c", "2", "-n", "7", "nice", "-n", "10"]
    attributes = ["--acls", "--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*"]
    pack = [*gently, "tar", "-cf", "-", "--sparse", "--numeric-owner", *attributes, "-C", str(root), "."]
    with target.open("wb") as file:
        tar = subprocess.Popen(pack, stdout=subprocess.PIPE)
        subprocess.run([*gently, "zstd", "-q", "-c", "-T1"], stdin=tar.stdout, stdout=file, check=True)
        assert tar.wait() == 0
    subprocess.run(["sync", str(target)], check=True)
    subprocess.run(["btrfs", "-q", "subvolume", "delete", str(root)], check=True)
    taken = time.perf_counter() - began
    target.unlink()
    return taken


def _ours(host: Host, vmid: int) -> tuple[float, float]:
    """Seconds of a backup, and for how long the guest stood still."""
    began = time.perf_counter()
    how = {"mode": "snapshot", "compress": "zstd", "zstd": 1, "remove": 0}
    upid = host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, **how)
    while host.get(f"/bastide/tasks/{upid}", wait=30)["status"] != "stopped":
        pass
    taken = time.perf_counter() - began
    stood = re.search(r"stood still for ([0-9.]+) seconds", host.wait(upid))
    assert stood is not None
    for row in host.get(f"/nodes/{host.node}/storage/local/content", content="backup"):
        host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{row['volid']}"))
    return taken, float(stood[1])


def test_a_container_is_saved_as_fast_as_tar_can(host: Host, folder: Path, report: Report) -> None:
    vmid = host.create(start=True, rootfs="snap:4", unprivileged=1)
    host.wait_booted(vmid)
    host.execute(vmid, "sh", "-c", FILL)
    root = folder / f"images/{vmid}/vm-{vmid}-disk-0.subvol"
    size = int(subprocess.run(["du", "-sb", str(root)], capture_output=True, check=True, text=True).stdout.split()[0])
    target = host.root / "by-hand.tar.zst"
    hand, ours, stood = [], [], []
    for _ in range(ROUNDS):
        hand.append(_by_hand(root, target))
        seconds, still = _ours(host, vmid)
        ours.append(seconds)
        stood.append(still)
    ratio = median(hand) / median(ours)
    what = f"backup of a container of {size / 1e9:.1f} GB"
    seconds = f"{median(ours):.1f} s", f"{median(hand):.1f} s"
    report.add(what, *seconds, f"{ratio:.0%}", f"at least {BAR:.0%}", met=ratio >= BAR)
    report.add("it stands still", f"{max(stood) * 1000:.0f} ms", "", "", "under 1 s", met=max(stood) < 1)
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid), force=1))
    assert ratio >= BAR
    assert max(stood) < 1
