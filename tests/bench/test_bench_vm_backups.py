"""A VM's backup and its restore against qemu-img by hand, on the same file system, each until it is on the disk.

    sudo ./bastide test -m bench -s tests/bench/test_bench_vm_backups.py

The disk has 1 GB, of which a half is data that compresses to a half. Without compression it is `qemu-img convert` from
raw to raw; with zstd it is to a compressed qcow2 image and back. Saving by hand gives way to others as `vzdump` does.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench.conftest import Report, median
from framework.host import Host

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = 5
BAR = 0.85
GIB, MIB = 1 << 30, 1 << 20
GENTLY = ["ionice", "-c", "2", "-n", "7", "nice", "-n", "10"]
PACKED = ["-c", "-o", "compression_type=zstd"]


def fill(disk: Path) -> None:
    """Data in every other 32 MiB, of it half noise and half text."""
    with disk.open("r+b") as file:
        for at in range(0, GIB, 64 * MIB):
            file.seek(at)
            for _ in range(32 * MIB // 8192):
                file.write(os.urandom(4096) + b"the same " * 455 + b"\n")
        os.fsync(file.fileno())


@pytest.fixture(scope="module")
def vm(host: Host) -> Iterator[tuple[int, Path]]:
    """A VM that does not run, and its disk."""
    vmid = host.new_vmid()
    host._vms.add(vmid)
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=vmid, memory=64, scsi0="local:1,format=raw"))
    disk = host.root / f"state/storage/images/{vmid}/vm-{vmid}-disk-0.raw"
    fill(disk)
    yield vmid, disk
    host.wait(host.delete(host.path(vmid)))


def finish(host: Host, upid: str) -> None:
    """Wait for the end of a task without its log."""
    while (news := host.get(f"/bastide/tasks/{upid}", wait=30))["status"] != "stopped":
        pass
    assert news["exitstatus"] == "OK", host.wait(upid)


def seconds(act: Callable[[], object]) -> float:
    """How long it takes, with nothing left to be written from before."""
    os.sync()
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def convert(source: Path, source_format: str, target: Path, form: str, before: Sequence[str] = ()) -> None:
    """By hand, until the target is on the disk."""
    options = PACKED if form == "qcow2" else []
    argv = [*before, "qemu-img", "convert", "-f", source_format, "-O", form, *options, source, target]
    subprocess.run(argv, check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())


@pytest.mark.parametrize("compress", ["0", "zstd"])
def test_a_vm_is_saved_and_restored(host: Host, vm: tuple[int, Path], report: Report, compress: str) -> None:
    vmid, disk = vm
    how = {"vmid": vmid, "mode": "stop", "compress": compress, "remove": 0, "zstd": os.cpu_count()}
    saved, copied = host.root / "by-hand.saved", host.root / "by-hand.restored"
    form = "qcow2" if compress == "zstd" else "raw"
    path = f"/nodes/{host.node}/storage/local/content"
    figures: dict[str, list[float]] = {"saved": [], "restored": [], "saved by hand": [], "restored by hand": []}
    for _ in range(ROUNDS):
        figures["saved by hand"].append(seconds(lambda: convert(disk, "raw", saved, form, GENTLY)))
        figures["restored by hand"].append(seconds(lambda: convert(saved, form, copied, "raw")))
        saved.unlink()
        copied.unlink()
        figures["saved"].append(seconds(lambda: finish(host, host.post(f"/nodes/{host.node}/vzdump", **how))))
        [backup] = [row["volid"] for row in host.get(path, content="backup", vmid=vmid)]
        fresh = host.new_vmid()
        host._vms.add(fresh)
        wish = {"vmid": fresh, "archive": backup, "storage": "local"}
        figures["restored"].append(
            seconds(lambda wish=wish: finish(host, host.post(f"/nodes/{host.node}/qemu", **wish)))
        )
        [restored] = (host.root / f"state/storage/images/{fresh}").iterdir()
        subprocess.run(["qemu-img", "compare", "-F", restored.suffix[1:], "-f", "raw", disk, restored], check=True)
        host.wait(host.delete(host.path(fresh)))
        host.wait(host.delete(f"{path}/{backup}"))
    print(compress, {name: [round(value, 2) for value in values] for name, values in figures.items()})
    for act in ("saved", "restored"):
        ours, by_hand = median(figures[act]), median(figures[f"{act} by hand"])
        report.add(f"a VM of 1 GB, {compress}, {act}", f"{ours:.1f} s", f"{by_hand:.1f} s", f"{by_hand / ours:.0%}",
                   f"at least {BAR:.0%}", met=by_hand / ours >= BAR)  # fmt: skip
