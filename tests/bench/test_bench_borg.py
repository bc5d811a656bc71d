"""Backups in a borg repository: what a second one takes of a first one's time, and one file of a whole restore's.

sudo ./bastide test -m bench -s tests/bench/test_bench_borg.py
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from bastide.host import qemu_nbd
from bastide.model.backup import DiskExport
from bastide.model.storage import StorageConfig
from bastide.storage import secrets
from bastide.storage.borg import BorgStorage
from bastide.storage.protocol import Saving
from bench.conftest import Report
from framework.host import Host

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

MIB = 1 << 20
FILL = """
mkdir /srv/data; cd /srv/data
i=0; while [ $i -lt 160 ]; do
    { dd if=/dev/urandom bs=1M count=2; dd if=/dev/zero bs=1M count=2 | tr '\\0' 'x'; } > f$i 2>/dev/null; i=$((i+1))
done
sync
"""


@pytest.fixture
def vault(host: Host, tmp_path: Path) -> Iterator[str]:
    """A storage of the type borg."""
    host.post("/storage", storage="vault", type="borg", path=str(tmp_path / "vault"))
    yield "vault"
    host.delete("/storage/vault")


def _timed(host: Host, upid: str, began: float) -> float:
    while host.get(f"/bastide/tasks/{upid}", wait=30)["status"] != "stopped":
        pass
    taken = time.perf_counter() - began
    host.wait(upid)
    return taken


def _save(host: Host, vmid: int, storage: str) -> float:
    time.sleep(1.1)  # a name tells the second
    began = time.perf_counter()
    return _timed(host, host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, storage=storage, mode="stop"), began)


def test_a_container(host: Host, vault: str, report: Report) -> None:
    """An unchanged one, and one file out of it."""
    vmid = host.create(start=True, rootfs="local:4", unprivileged=1)
    host.wait_booted(vmid)
    host.execute(vmid, "sh", "-c", FILL)
    host.act(vmid, "stop")
    first = _save(host, vmid, vault)
    second = min(_save(host, vmid, vault) for _ in range(2))
    ratio = second / first
    report.add(
        "second borg backup, nothing changed", f"{second:.1f} s", f"first {first:.1f} s", f"{ratio:.0%}", "under 10 %",
        met=ratio < 0.1,
    )  # fmt: skip
    volid = host.get(f"/nodes/{host.node}/storage/{vault}/content", content="backup")[-1]["volid"]
    copy = host.new_vmid()
    began = time.perf_counter()
    whole = _timed(
        host,
        host.post(f"/nodes/{host.node}/lxc", vmid=copy, ostemplate=volid, restore=1, storage="local", unprivileged=1),
        began,
    )
    target = host.root / "one-file"
    began = time.perf_counter()
    host.cli("restore-file", volid, "/etc/hostname", str(target))
    one = time.perf_counter() - began
    assert target.exists()
    report.add(
        "one file out of a borg backup", f"{one:.1f} s", f"whole {whole:.1f} s", f"{one / whole:.0%}", "under 10 %",
        met=one / whole < 0.1,
    )  # fmt: skip
    for guest in (vmid, copy):
        host.wait(host.delete(host.path(guest), force=1))


def test_a_disk(tmp_path: Path, report: Report) -> None:
    """Of 4 GiB with 2 GiB in it, 1 % of which has changed since."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(4 << 30)
        for number in range(512):
            file.seek(number * 8 * MIB)
            file.write(os.urandom(2 * MIB) + b"x" * (2 * MIB))
    layout = Layout(tmp_path / "host")
    layout.state.mkdir(parents=True)
    config = StorageConfig.parse({"storage": "vault", "type": "borg", "path": str(tmp_path / "vault")})
    secrets.keep(layout, "vault", "passphrase", "a secret")
    storage = BorgStorage(config, layout)
    asyncio.run(storage.prepare())
    first = asyncio.run(_save_disk(storage, disk, 23))
    with disk.open("r+b") as file:
        for number in range(3):
            file.seek(number * 170 * 8 * MIB)
            file.write(os.urandom(3 * MIB))
    second = asyncio.run(_save_disk(storage, disk, 24))
    ratio = second / first
    report.add(
        "second borg backup of a VM, 1 % changed", f"{second:.1f} s", f"first {first:.1f} s", f"{ratio:.0%}",
        "under 25 %", met=ratio < 0.25,
    )  # fmt: skip


async def _save_disk(storage: BorgStorage, disk: Path, day: int) -> float:
    await asyncio.to_thread(os.sync)
    began = time.perf_counter()
    folder = disk.with_name(f"nbd{day}")
    folder.mkdir()
    async with qemu_nbd.serving(disk, folder=folder) as socket:
        export = DiskExport("scsi0", socket, disk.stat().st_size)
        await storage.save_disks(f"backup/vzdump-qemu-101-2026_11_{day}-01_02_03", [export], {}, Saving())
    return time.perf_counter() - began
