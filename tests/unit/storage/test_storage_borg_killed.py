"""A process that keeps and removes backups in a borg repository, killed at many points: what the next one finds."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bastide.base.layout import Layout
from bastide.host import borg, filesystems
from bastide.model.backup import Tree
from bastide.model.storage import StorageConfig
from bastide.storage import secrets
from bastide.storage.borg import BorgStorage
from bastide.storage.protocol import Saving
from framework.patience import PATIENCE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="runs borg confined and mounts FUSE file systems"),
]

POINTS = 24
KEPT, LATER = (f"backup/vzdump-lxc-100-2026_11_{day}-01_02_03" for day in (23, 24))
VM = "backup/vzdump-qemu-101-2026_11_23-01_02_03"

_WORK = """
import asyncio, sys
from pathlib import Path
from bastide.host import qemu_nbd
from bastide.model.backup import DiskExport, Tree
from bastide.storage.protocol import Saving
from test_storage_borg_killed import KEPT, LATER, VM, storage
async def main(root):
    vault = storage(root)
    await vault.prepare()
    print("go", flush=True)
    await vault.save_tree(LATER, Tree(root / "guest"), {"pct.conf": b"x"}, Saving())
    (root / "nbd").mkdir(exist_ok=True)
    async with qemu_nbd.serving(root / "disk", folder=root / "nbd") as socket:
        disk = DiskExport("scsi0", socket, (root / "disk").stat().st_size)
        await vault.save_disks(VM, [disk], {}, Saving())
    async with vault.reading_disks(VM) as files:
        pass
    await vault.delete(KEPT)
    print("done", flush=True)
asyncio.run(main(Path(sys.argv[1])))
"""


def storage(root: Path) -> BorgStorage:
    """The storage in a folder."""
    layout = Layout(root / "host")
    layout.state.mkdir(parents=True, exist_ok=True)
    if not secrets.path(layout, "vault", "passphrase").exists():
        secrets.keep(layout, "vault", "passphrase", "a secret")
    return BorgStorage(StorageConfig.parse({"storage": "vault", "type": "borg", "path": str(root / "vault")}), layout)


def killed_after(root: Path, seconds: float) -> bool:
    """Run the work and kill it; whether it came to its end before."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}:{here.parents[2] / 'src'}"}
    argv = [sys.executable, "-c", _WORK, str(root)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return process.stdout.read() == "done\n"


def processes_in(root: Path) -> list[list[str]]:
    """What still runs and names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(str(root) in word for word in words):
            found.append(words)
    return found


async def test_killed_at_many_points(tmp_path: Path) -> None:
    (tmp_path / "guest").mkdir()
    with (tmp_path / "disk").open("wb") as file:
        for _ in range(10):
            file.write(os.urandom(4 << 20))
    vault = storage(tmp_path)
    await vault.prepare()
    began = time.monotonic()
    await vault.save_tree(KEPT, Tree(tmp_path / "guest"), {}, Saving())
    whole = 5 * (time.monotonic() - began)
    for point in range(POINTS):
        (tmp_path / "guest/big").write_bytes(os.urandom(20 << 20))
        await asyncio.to_thread(killed_after, tmp_path, random.uniform(0, whole))
        deadline = time.monotonic() + 10 * PATIENCE
        while left := processes_in(tmp_path):
            assert time.monotonic() < deadline, (point, left)
            await asyncio.sleep(0.05)
        again = storage(tmp_path)
        await again.prepare()
        assert filesystems.mounts_within(tmp_path) == [], point
        assert os.listdir(tmp_path / "vault/views") == [], point
        names = {volume.volid.partition(":")[2] for volume in await again.list()}
        assert names <= {KEPT, LATER, VM}
        for name in names:
            await again.verify(name)
        for name in (KEPT, LATER, VM):
            await again.delete(name)
        assert await borg.archives(again._repository) == [], point
        await again.save_tree(KEPT, Tree(tmp_path / "guest"), {}, Saving())
