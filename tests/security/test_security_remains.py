"""What is left of a guest when it is gone, and what many requests at once take: data, and room.

Attack classes 26 (leftover data) and 28 (limits that hold under races).
"""

import concurrent.futures
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bastide.base.units import MIB
from framework.disposable import Disposable
from framework.host import ApiFailure, Host, TaskFailed
from framework.storages import made

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

REAL = ["dir-ext4", "dir-xfs", "dir-btrfs", "btrfs"]
SIZE = 16 * MIB


async def seen(storage: Any, name: str, scratch: Path) -> bytes:
    """What a guest would read of a disk."""
    image = await storage.disk_image(name)
    convert("-f", image.format, "-O", "raw", str(image.path), str(scratch))
    return scratch.read_bytes()


def convert(*argv: str) -> None:
    """Copy an image, unconfined."""
    subprocess.run(["qemu-img", "convert", *argv], check=True)


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["raw", "qcow2"])
@pytest.mark.parametrize("driver", REAL)
async def test_no_disk_holds_what_another_held(driver: str, form: str, disposable: Disposable, tmp_path: Path) -> None:
    """ATTACKS 26: a pattern over a whole disk, in its snapshot and its copy; new disks and grown ones read as zeros.

    A disk that were a removed one's file under another name would fail this. `lvm` keeps what was there unless it has
    `saferemove` (`test_what_is_removed_is_overwritten_first`), which SECURITY.md says.
    """
    storage, mark = made(driver, disposable, tmp_path), os.urandom(32).hex().encode()
    await storage.prepare()
    first, copy, second = (f"{vmid}/vm-{vmid}-disk-0.{form}" for vmid in (100, 101, 102))
    await storage.allocate_disk(first, SIZE)
    image, raw = await storage.disk_image(first), tmp_path / "pattern"
    raw.write_bytes(mark * (SIZE // len(mark)))
    convert("-n", "-f", "raw", "-O", form, str(raw), str(image.path))
    os.sync()
    assert mark in await seen(storage, first, raw), "the pattern is there"
    await storage.copy(first, copy)
    for name in (first, copy):
        await storage.delete(name)
    await storage.allocate_disk(second, SIZE // 2)
    await storage.resize_disk(second, SIZE)
    assert (await seen(storage, second, raw)).strip(b"\0") == b""
    await storage.delete(second)


def used(host: Host) -> int:
    """Bytes that guests' volumes take on the host's storage, bases and templates left out."""
    files = [path for path in (host.root / "state/storage/images").rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


def many(host: Host, vmid: int, volid: str, clones: list[int]) -> list[tuple[str, str, dict[str, Any]]]:
    """Fifty wishes at once for one VM, in an order that is the same each time."""
    node = f"/nodes/{host.node}/qemu"
    wishes: list[tuple[str, str, dict[str, Any]]] = [
        *(("PUT", f"{node}/{vmid}/resize", {"disk": "scsi0", "size": "+1M"}) for _ in range(20)),
        *(("POST", f"{node}/{vmid}/clone", {"newid": clone, "full": 1}) for clone in clones[:8] for _ in range(2)),
        *(("POST", node, {"vmid": clone, "archive": volid, "storage": "local"}) for clone in clones[6:]),
        *(("POST", f"{node}/{vmid}/snapshot/one/rollback", {}) for _ in range(14 - len(clones[6:]))),
    ]
    random.Random(8).shuffle(wishes)
    return wishes


def test_fifty_wishes_at_once_take_no_more_than_they_say(host: Host) -> None:
    """ATTACKS 28: resize, clone, restore and rollback of one VM; each ends, and each disk is as long as is said.

    Without the guest's lock (`tasks/locks.py`) this fails: a disk is not as long as its VM says. There are no quotas of
    pools that could be passed.
    """
    before = used(host)
    vmid = host.create_vm(scsi0="local:0.0625,format=qcow2")
    told = host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, storage="local", mode="stop", compress="zstd"))
    volid = "local:backup/" + Path(next(word.strip("'") for word in told.split() if "vzdump-qemu-" in word)).name
    host.wait(host.post(host.path(vmid, "/snapshot"), snapname="one"))
    clones = [host.new_vmid() for _ in range(10)]
    host._vms.update(clones)

    def ask(wish: tuple[str, str, dict[str, Any]]) -> str:
        try:
            return host.wait(host.request(wish[0], wish[1], **wish[2]), 240)
        except (ApiFailure, TaskFailed) as error:
            return f"failed: {error}"

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        wishes = many(host, vmid, volid, clones)
        ended = list(pool.map(ask, wishes))
    assert len(ended) == 50
    assert [one for one in ended if not one.startswith("failed")], ended
    rows = {row["vmid"]: row for row in host.get(f"/nodes/{host.node}/qemu")}
    assert not [row for row in rows.values() if row.get("lock")]
    for one in [vmid, *(clone for clone in clones if clone in rows)]:
        disk = dict(part.partition("=")[::2] for part in host.get(host.path(one, "/config"))["scsi0"].split(","))
        found = subprocess.run(["qemu-img", "info", "-f", "qcow2", "--output=json", str(disk_file(host, one))],
                               check=False, capture_output=True, text=True)  # fmt: skip
        size = f'"virtual-size": {int(disk["size"].removesuffix("M")) * MIB}'
        assert size in found.stdout or disk_file(host, one).suffix == ".raw", (one, disk, found.stdout)
    host.wait(host.delete(host.path(vmid, "/snapshot/one")))
    for one in [vmid, *(clone for clone in clones if clone in rows)]:
        host.wait(host.delete(host.path(one)))
    host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{volid}"))
    assert used(host) - before < MIB


def disk_file(host: Host, vmid: int) -> Path:
    """The file of a VM's disk."""
    volid = str(host.get(host.path(vmid, "/config"))["scsi0"]).partition(",")[0]
    return host.root / "state/storage/images" / volid.partition(":")[2]
