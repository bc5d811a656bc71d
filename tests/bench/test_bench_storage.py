"""Guests from bases, snapshots and clones: against plain LXC on the same file system, and against LXD.

    sudo ./bastide test -m bench -s tests/bench/test_bench_storage.py

LXD is measured in the same run where Debian's package `lxd` is installed; else its figures on a machine like this one
stand in, and the table says so.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.conftest import Report, median, milliseconds
from bench.peer_lxd import Lxd, running_lxd
from bench.plain import PlainLxc, wait_up
from framework.disposable import mounted
from framework.host import LXC_PATH, ApiFailure, Host, TaskFailed

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = 5
FLEET = 30
KINDS = ("ext4", "xfs", "btrfs")
SIZE = 12 << 30  # sparse
MIB = 1 << 20

RECORDED = {"snapshot": 425.0, "restore": 448.0, "copy": 513.0, "fleet": 55_800.0}
"""Milliseconds of LXD 5.0.2 with a btrfs pool, on two cores: medians; thirty made and started for `fleet`."""


@dataclass
class Ground:
    """A file system with a storage of the host's and containers by hand side by side."""

    kind: str
    folder: Path
    host: Host
    plain: PlainLxc
    template: str
    made: list[int] = field(default_factory=list)

    def create(self, *, start: bool = False) -> int:
        """A container of 2 GiB from the template."""
        vmid = self.host.new_vmid()
        self.made.append(vmid)
        options = {
            "ostemplate": self.template,
            "hostname": "bench",
            "unprivileged": 1,
            "memory": 512,
            "net0": f"name=eth0,bridge={self.host.bridge},ip=dhcp,ip6=auto",
            "rootfs": f"{self.kind}:2",
        }
        self.wait(self.host.post(f"/nodes/{self.host.node}/lxc", vmid=vmid, start=int(start), **options))
        return vmid

    def wait(self, upid: object) -> None:
        """Wait for the end of a task, without its log, as `lxc` waits for an operation of LXD's."""
        wait_end(self.host, str(upid))

    def remove(self, vmid: int) -> None:
        """Delete one with force."""
        self.host.wait(self.host.delete(self.host.path(vmid), force=1))
        self.made.remove(vmid)

    def clone(self, source: int, **options: object) -> str:
        """Begin a clone; its task."""
        vmid = self.host.new_vmid()
        self.made.append(vmid)
        return str(self.host.post(self.host.path(source, "/clone"), newid=vmid, **options))

    def used(self) -> int:
        """Bytes in use of the file system."""
        subprocess.run(["sync", "-f", str(self.folder)], check=True)
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


def wait_end(host: Host, upid: str) -> None:
    """Wait for the end of a task by the method that tells it when it comes."""
    news = host.get(f"/bastide/tasks/{upid}")
    while news["status"] != "stopped":
        news = host.get(f"/bastide/tasks/{upid}")
    assert news["exitstatus"] == "OK", news


@contextmanager
def _ground(kind: str, host: Host) -> Iterator[Ground]:
    place = Path(tempfile.mkdtemp(prefix=f"bench-{kind}-", dir="/var/tmp"))
    place.chmod(0o711)  # guests' mapped roots have to pass
    with ExitStack() as undo:
        undo.callback(place.rmdir)
        folder = undo.enter_context(mounted(kind, place, SIZE))
        folder.chmod(0o711)
        plain = PlainLxc(host.bridge, folder)
        undo.callback(plain.dispose)
        storage_type = "btrfs" if kind == "btrfs" else "dir"
        host.post("/storage", storage=kind, type=storage_type, path=str(folder / "ours"), content="rootdir,images")
        undo.callback(host.delete, f"/storage/{kind}")
        ground = Ground(kind, folder, host, plain, host.template())
        undo.callback(_remove_all, ground)
        # The base is made with the first container.
        ground.remove(ground.create())
        yield ground


def _remove_all(ground: Ground) -> None:
    for vmid in reversed(ground.made):  # clones before what they build on
        with suppress(ApiFailure, TaskFailed):  # one that was not made
            ground.host.wait(ground.host.delete(ground.host.path(vmid), force=1))


@pytest.fixture(scope="module")
def grounds(host: Host) -> Iterator[dict[str, Ground]]:
    """One of each kind."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(_ground(kind, host)) for kind in KINDS}


def _template(host: Host) -> Path:
    return host.root / "state/storage/template/cache" / host.template().rpartition("/")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_container_from_a_base(grounds: dict[str, Ground], report: Report, kind: str) -> None:
    ground = grounds[kind]
    host, plain, template = ground.host, ground.plain, _template(ground.host)

    def ours() -> None:
        wait_up(LXC_PATH, host.lxc_name(ground.create(start=True)))

    def by_hand() -> None:
        plain.start("hand")
        wait_up(plain.folder, "hand")

    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        plain.create("hand", template, number)
        os.sync()
        figures[1].extend(milliseconds(by_hand, 1))
        plain.stop("hand")
        plain.destroy("hand")
        os.sync()
        figures[0].extend(milliseconds(ours, 1))
        ground.remove(ground.made[-1])
    a, b = median(figures[0]), median(figures[1])
    report.add(f"{kind}: container from a base, made and started, until systemd runs and the address is known",
               f"{a:.0f} ms", f"{b:.0f} ms (start alone)", f"{a / b:.2f} times, {a - b:+.0f} ms",
               "under 1.2 times + 150 ms", met=a < 1.2 * b + 150)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_create_and_its_space(grounds: dict[str, Ground], report: Report, kind: str) -> None:
    ground = grounds[kind]
    before = ground.used()
    taken = milliseconds(ground.create, ROUNDS)
    space = (ground.used() - before) / ROUNDS / MIB
    for vmid in ground.made[:]:
        ground.remove(vmid)
    report.add(f"{kind}: create alone, from a base", f"{median(taken):.0f} ms", "", f"{median(taken):.0f} ms",
               "under 100 ms", met=median(taken) < 100)  # fmt: skip
    report.add(f"{kind}: disk used by a fresh container", f"{space:.1f} MiB", "", f"{space:.1f} MiB", "under 5 MB",
               met=space * MIB < 5_000_000)  # fmt: skip


@contextmanager
def _lxd(ground: Ground) -> Iterator[Lxd | None]:
    """LXD with a pool on the ground's file system; None where it is not installed."""
    if shutil.which("lxd") is None:
        yield None
        return
    with running_lxd(ground.host.bridge, _template(ground.host), ground.folder / f"lxd-{secrets.token_hex(4)}") as lxd:
        yield lxd


def test_container_snapshot_rollback_clone(grounds: dict[str, Ground], report: Report) -> None:
    ground = grounds["btrfs"]
    host = ground.host
    vmid = ground.create()
    figures: dict[str, list[float]] = {"snapshot": [], "restore": [], "copy": []}
    for number in range(ROUNDS):
        name = f"s{number}"
        path = host.path(vmid, "/snapshot")
        figures["snapshot"] += milliseconds(lambda path=path, name=name: ground.wait(host.post(path, snapname=name)), 1)
        path = host.path(vmid, f"/snapshot/{name}/rollback")
        figures["restore"] += milliseconds(lambda path=path: ground.wait(host.post(path)), 1)
        figures["copy"] += milliseconds(lambda: ground.wait(ground.clone(vmid, hostname="copy")), 1)
        ground.remove(ground.made[-1])
        host.wait(host.delete(host.path(vmid, f"/snapshot/{name}")))
    ground.remove(vmid)
    with _lxd(ground) as lxd:
        peer = RECORDED if lxd is None else {key: median(values) for key, values in _lxd_figures(lxd).items()}
    source = "in this run" if lxd is not None else "recorded: LXD is not installed"
    for key, words in (("snapshot", "snapshot"), ("restore", "rollback"), ("copy", "clone")):
        a, b = median(figures[key]), peer[key]
        report.add(f"btrfs: {words} of a container", f"{a:.0f} ms", f"LXD {b:.0f} ms ({source})",
                   f"{a / b:.2f} times LXD's", "at most a quarter", met=a <= b / 4)  # fmt: skip


def _lxd_figures(lxd: Lxd) -> dict[str, list[float]]:
    lxd.client("init", "base", "bench")
    figures: dict[str, list[float]] = {"snapshot": [], "restore": [], "copy": []}
    for number in range(ROUNDS):
        name = f"s{number}"
        figures["snapshot"] += milliseconds(lambda name=name: lxd.client("snapshot", "bench", name), 1)
        figures["restore"] += milliseconds(lambda name=name: lxd.client("restore", "bench", name), 1)
        figures["copy"] += milliseconds(lambda: lxd.client("copy", "bench", "copied", "--instance-only"), 1)
        lxd.client("delete", "copied")
    return figures


def test_thirty_containers_one_after_the_other(grounds: dict[str, Ground], report: Report) -> None:
    ground = grounds["btrfs"]
    ours = milliseconds(lambda: [ground.create(start=True) for _ in range(FLEET)], 1)[0]
    for vmid in ground.made[:]:
        ground.remove(vmid)
    with _lxd(ground) as lxd:
        peer = RECORDED["fleet"]
        if lxd is not None:
            names = [f"fleet{number}" for number in range(FLEET)]
            peer = milliseconds(lambda: [lxd.client("launch", "base", name) for name in names], 1)[0]
    source = "in this run" if lxd is not None else "recorded: LXD is not installed"
    report.add(f"btrfs: {FLEET} containers made and started one after the other", f"{ours / 1000:.1f} s",
               f"LXD {peer / 1000:.1f} s ({source})", f"{ours / peer:.2f} times LXD's", "at most a third",
               met=ours <= peer / 3)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_five_copies_of_one_environment(grounds: dict[str, Ground], report: Report, kind: str) -> None:
    ground = grounds[kind]
    host = ground.host
    source = ground.create()
    host.wait(host.post(host.path(source, "/template")))

    def copies(count: int) -> None:
        upids = [ground.clone(source, hostname=f"copy{number}", full=0) for number in range(count)]
        made = ground.made[-count:]
        for upid in upids:
            ground.wait(upid)
        upids = [str(host.post(host.path(vmid, "/status/start"))) for vmid in made]
        for upid in upids:
            ground.wait(upid)
        for vmid in made:
            host.wait_address(vmid)

    figures: dict[int, list[float]] = {1: [], 5: []}
    for _ in range(3):
        for count in figures:
            figures[count] += milliseconds(lambda count=count: copies(count), 1)
            for vmid in ground.made[-count:]:
                ground.remove(vmid)
    ground.remove(source)
    one, five = median(figures[1]), median(figures[5])
    report.add(f"{kind}: five linked clones made, started, addressed, against one", f"{five:.0f} ms",
               f"{one:.0f} ms", f"{five / one:.2f} times", "under 2 times", met=five < 2 * one)  # fmt: skip


def test_disks_of_vms(host: Host, report: Report) -> None:
    """Disks from a base and linked clones; no VM is started."""
    image = host.root / "state/storage/import/bench.raw"
    image.parent.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.write(os.urandom(256 * MIB))
        file.truncate(4 << 30)
    made: list[int] = []

    def create() -> None:
        vmid = host.new_vmid()
        made.append(vmid)
        host._vms.add(vmid)
        wait_end(host, host.post(f"/nodes/{host.node}/qemu", vmid=vmid, name=f"vm{vmid}", memory=64,
                                 scsi0="local:0,import-from=local:import/bench.raw"))  # fmt: skip

    try:
        first = milliseconds(create, 1)[0]
        taken = median(milliseconds(create, ROUNDS))
        report.add("VM from an image, its disk from the base", f"{taken:.0f} ms", f"{first:.0f} ms (the first)",
                   f"{taken:.0f} ms", "under 100 ms", met=taken < 100)  # fmt: skip
        host.wait(host.post(host.path(made[0], "/template")))

        def clone() -> None:
            vmid = host.new_vmid()
            upid = host.post(host.path(made[0], "/clone"), newid=vmid, full=0)
            made.append(vmid)
            host._vms.add(vmid)
            wait_end(host, upid)

        taken = median(milliseconds(clone, ROUNDS))
        report.add("linked clone of a VM", f"{taken:.0f} ms", "", f"{taken:.0f} ms", "under 200 ms", met=taken < 200)
    finally:
        for vmid in reversed(made):
            host.wait(host.delete(host.path(vmid)))
        host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/local:import/bench.raw"))
