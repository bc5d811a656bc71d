"""Real containers are saved while they write: each archive is of one moment, and the guest goes on, come what may."""

import contextlib
import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.disposable import mounted
from framework.evil import put_template
from framework.host import Host, TaskFailed
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

MIB = 1 << 20
# Both are written to one after the other: at any moment they differ by one line at most.
WRITER = """i=0; while :; do i=$((i+1)); echo $i >> /one; echo $i >> /data/two; done"""


class Bench:
    """A host with a storage for each kind of file system."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.template = put_template(host, "local", busybox_tar())

    def guest(self, storage: str, **more: Any) -> int:
        """A running container of two volumes that writes."""
        host, vmid = self.host, self.host.new_vmid()
        values = {"unprivileged": 1, "memory": 64, "hostname": "writer", "rootfs": f"{storage}:0.125"}
        values |= {"mp0": f"{storage}:0.125,mp=/data,backup=1", "mp1": f"{storage}:0.125,mp=/scratch", **more}
        made = host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=self.template, start=1, **values)
        host.wait(made)
        host.execute(
            vmid, "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=24 2>/dev/null; echo x > /scratch/x"
        )
        host.execute(vmid, "sh", "-c", f"({WRITER}) >/dev/null 2>&1 </dev/null & sleep 1")
        return vmid

    def life(self, vmid: int) -> tuple[int, str]:
        """Its first process, and when that began."""
        pid = self.host.get(self.host.path(vmid, "/status/current"))["pid"]
        return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]

    def save(self, vmid: int, **options: Any) -> str:
        """The log of a backup."""
        return self.host.wait(self.begin(vmid, **options))

    def begin(self, vmid: int, **options: Any) -> str:
        upid: str = self.host.post(f"/nodes/{self.host.node}/vzdump", vmid=vmid, compress="zstd", **options)
        return upid

    def archives(self, vmid: int) -> list[Path]:
        return sorted((self.host.root / "state/storage/dump").glob(f"vzdump-lxc-{vmid}-*.tar.zst"))

    def read(self, archive: Path) -> dict[str, bytes]:
        """Its plain files by their names."""
        stream = subprocess.run(["zstd", "-dcq", str(archive)], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
            return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]

    def clean(self, vmid: int) -> None:
        """Nothing is left of a backup, and the guest writes."""
        host = self.host
        assert [row["name"] for row in host.get(host.path(vmid, "/snapshot"))] == ["current"]
        assert "lock" not in host.get(host.path(vmid, "/config"))
        assert not [*host.root.glob("state/vzdump/vzdumptmp-*")]
        assert not [*host.root.glob("state/storage/.incoming/*vzdump*")]
        assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines()
                    if str(host.root) in line and "/mounts/" in line and "/." in line.split()[4]]  # fmt: skip

    def wait_running(self, vmid: int, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds * PATIENCE
        while self.host.get(self.host.path(vmid, "/status/current"))["status"] != "running":
            assert time.monotonic() < deadline, "it is not started again"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("backups")
    with contextlib.ExitStack() as stack:
        places = {kind: stack.enter_context(mounted(kind, folder)) for kind in ("btrfs", "xfs")}
        host = stack.enter_context(Host.launched(number=3))
        host.post("/storage", storage="btrfs", type="btrfs", path=str(places["btrfs"] / "s"), content="rootdir")
        host.post("/storage", storage="xfs", type="dir", path=str(places["xfs"] / "s"), content="rootdir")
        yield Bench(host)


def _check(bench: Bench, vmid: int, archive: Path) -> None:
    files = bench.read(archive)
    one, two = (files[name].split() for name in ("./one", "./data/two"))
    assert 0 <= len(one) - len(two) <= 1
    assert int(two[-1]) == len(two) > 10
    assert len(files["./root/big"]) == 24 * MIB
    assert "./scratch/x" not in files
    config = files["./etc/vzdump/pct.conf"].decode()
    assert "hostname: writer" in config
    assert "lock" not in config


@pytest.mark.parametrize(
    ("storage", "mode", "seconds"),
    [("btrfs", "snapshot", 1), ("xfs", "snapshot", 1), ("local", "snapshot", 5), ("local", "suspend", 30)],
)
def test_an_archive_is_of_one_moment(bench: Bench, storage: str, mode: str, seconds: int) -> None:
    """By snapshots, also where they are small copies, and by copying what is left while it stands still."""
    vmid = bench.guest(storage)
    life = bench.life(vmid)
    log = bench.save(vmid, mode=mode)
    assert f"backup mode: {mode}" in log
    stood = re.search(r"stood still for ([0-9.]+) seconds", log)
    assert stood is not None
    assert float(stood[1]) < seconds * PATIENCE, log
    assert bench.life(vmid) == life
    (archive,) = bench.archives(vmid)
    _check(bench, vmid, archive)
    bench.clean(vmid)
    bench.host.act(vmid, "stop")
    bench.host.wait(bench.host.delete(bench.host.path(vmid), force=1))


def test_in_stop_mode_it_is_down_and_runs_again(bench: Bench) -> None:
    vmid = bench.guest("local")
    life = bench.life(vmid)
    bench.save(vmid, mode="stop", **{"exclude-path": ["/root/big"]})
    assert bench.life(vmid) != life
    files = bench.read(bench.archives(vmid)[-1])
    assert files["./one"]
    assert "./root/big" not in files
    bench.clean(vmid)
    bench.host.act(vmid, "stop")
    # A stopped one and a template are simply read.
    log = bench.save(vmid, mode="snapshot")
    assert "stood still" not in log
    whole = bench.read(bench.archives(vmid)[-1])
    bench.host.wait(bench.host.post(bench.host.path(vmid, "/template")))
    bench.save(vmid)
    told = bench.read(bench.archives(vmid)[-1])
    assert b"template: 1" in told["./etc/vzdump/pct.conf"]
    assert set(told) == set(whole)
    assert told["./one"] == whole["./one"]
    bench.host.wait(bench.host.delete(bench.host.path(vmid), force=1))


def test_kill_nine_leaves_it_running(bench: Bench) -> None:
    """Also one that stood stopped for its backup; the second try works."""
    host = bench.host
    vmid = bench.guest("btrfs", unprivileged=0)
    upid = bench.begin(vmid, mode="stop", bwlimit=2048)
    deadline = time.monotonic() + 60 * PATIENCE
    while "creating vzdump archive" not in json.dumps(host.get(f"/nodes/{host.node}/tasks/{upid}/log", limit=500)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert host.get(host.path(vmid, "/status/current"))["status"] == "stopped"
    host.kill()
    host.start()
    bench.wait_running(vmid)
    bench.clean(vmid)
    with pytest.raises(TaskFailed):
        host.wait(upid)
    assert bench.archives(vmid) == []
    bench.save(vmid, mode="stop")
    assert len(bench.archives(vmid)) == 1
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid), force=1))
