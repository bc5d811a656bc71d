"""Backups, archives and images that were good and are not any more: restored and imported by a real daemon.

Attack class 29. Each is a container's backup, a VM's backup or a disk image after a few changes (`mutations.py`), some
of them behind a good checksum. What becomes of it is a guest or an error that says why; nothing is left of the rest.
"""

import concurrent.futures
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from random import Random

import pytest

from framework.ct_archives import CONFIG, backup_tar
from framework.evil import guests, volumes
from framework.host import ApiFailure, Host, TaskFailed
from framework.mutations import mutate
from framework.vma_files import vma

pytestmark = pytest.mark.system

VM = b"""\
memory: 64
name: shop
scsi0: local-lvm:vm-105-disk-0,size=1M
net0: virtio
#qmdump#map:scsi0:drive-scsi0:x:raw:
"""
Make = Callable[[Random], bytes]


def _tar(rng: Random) -> bytes:
    """A container's backup: its configuration is changed, or the archive around it."""
    config = CONFIG.replace("32M", "4M").replace("64M", "8M").encode()
    if rng.random() < 0.5:
        return backup_tar(mutate(config, rng))
    return mutate(backup_tar(config), rng)


def _vma(rng: Random) -> bytes:
    """A VM's backup: its configuration, its header behind a right checksum, or anything of it."""
    kind, disk = rng.randrange(3), rng.randbytes(4096).ljust(1 << 20, b"\0")
    whole = vma({"qemu-server.conf": mutate(VM, rng) if kind == 0 else VM}, {"drive-scsi0": disk})
    if kind == 2:
        return mutate(whole, rng)
    if kind == 0:
        return whole
    head = bytearray(mutate(whole[:12800], rng)[:12800].ljust(12800, b"\0"))
    head[:8], head[32:48] = b"VMA\0" + struct.pack(">I", 1), bytes(16)
    head[32:48] = md5(head, usedforsecurity=False).digest()
    return bytes(head) + whole[12800:]


def _image(folder: Path, form: str) -> Make:
    path = folder / f"seed.{form}"
    subprocess.run(["qemu-img", "create", "-q", "-f", form, path, "1M"], check=True)
    data = path.read_bytes()[: 1 << 20]
    # Changes hit the header, where all that is believed lies.
    return lambda rng: mutate(data[:1024], rng) + data[1024:]


class Door:
    """How mutated data gets into a host: as a backup that is restored, or an image that is imported."""

    def __init__(self, host: Host, kind: str, make: Make, extension: str) -> None:
        self.host, self.kind, self.make, self.extension = host, kind, make, extension
        self.told: list[str] = []

    def bring(self, number: int, data: bytes) -> str:
        """`made` or `refused`; whatever was made is removed again."""
        vmid = 900_000 + number
        folder = "dump" if self.kind in ("lxc", "qemu") else "import"
        minute, second = divmod(number % 3600, 60)
        name = f"mutated-{number}{self.extension}"
        if folder == "dump":
            name = f"vzdump-{self.kind}-105-2026_11_23-{number // 3600 % 24:02}_{minute:02}_{second:02}{self.extension}"
        path = self.host.root / "state/storage" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        try:
            return self._try(vmid, f"local:{'backup' if folder == 'dump' else 'import'}/{name}")
        finally:
            path.unlink(missing_ok=True)

    def _try(self, vmid: int, volid: str) -> str:
        node = f"/nodes/{self.host.node}"
        if self.kind != "import":
            self._asked("GET", f"{node}/vzdump/extractconfig", volume=volid)
        values = {
            "lxc": {"ostemplate": volid, "restore": 1, "rootfs": "local:0"},
            "qemu": {"archive": volid, "storage": "local"},
            "import": {"scsi0": f"local:0,import-from={volid}", "memory": 16},
        }[self.kind]
        kind = "lxc" if self.kind == "lxc" else "qemu"
        upid = self._asked("POST", f"{node}/{kind}", vmid=vmid, **values)
        if upid is None:
            return "refused"
        try:
            self.host.wait(upid, 300)
        except TaskFailed as error:
            self.told.append(str(error))
            return "refused"
        self.host.wait(self.host.delete(f"{node}/{kind}/{vmid}"), 300)
        return "made"

    def _asked(self, method: str, path: str, **values: object) -> str | None:
        try:
            return str(self.host.request(method, path, **values))
        except ApiFailure as error:
            self.told.append(str(error))
            return None


@pytest.fixture
def doors(host: Host, tmp_path: Path) -> Iterator[list[Door]]:
    images = [Door(host, "import", _image(tmp_path, form), f".{form}") for form in ("qcow2", "vmdk")]
    assert host.process is not None
    pid, before, log = host.process.pid, (guests(host), volumes(host)), len(host.daemon_log())
    yield [Door(host, "lxc", _tar, ".tar"), Door(host, "qemu", _vma, ".vma"), *images]
    assert (host.process.pid, host.process.poll()) == (pid, None)
    assert "Traceback" not in host.daemon_log()[log:]
    assert (guests(host), volumes(host)) == before


def bring_all(doors: list[Door], count: int, seed: int) -> None:
    rng, seen = Random(seed), Counter[str]()
    for door in doors:  # what is good gets in, so that a refusal means something
        assert door.bring(seed, _good(door)) == "made", door.kind
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        tasks = [
            pool.submit(doors[number % len(doors)].bring, seed + 1 + number, doors[number % len(doors)].make(rng))
            for number in range(count)
        ]
        for task in tasks:
            seen[task.result()] += 1
    assert [text for door in doors for text in door.told if "internal error" in text] == []
    print(f"{count} mutated: {dict(seen)}")
    assert seen["refused"] > count / 8
    assert seen["made"] > count / 50


def _good(door: Door) -> bytes:
    class Unchanged(Random):
        """Chance that changes nothing: no step of `mutate` is done."""

        def randint(self, a: int, b: int) -> int:
            return 0

    return door.make(Unchanged(1))


def test_mutated_backups_and_images_are_refused_or_restored(doors: list[Door]) -> None:
    """Without the checks of `config_text`, `vma` or `disk_headers` errors of Python's end tasks, and this fails."""
    bring_all(doors, 120, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("piece", range(10))
def test_five_thousand_mutated_backups_and_images(doors: list[Door], piece: int) -> None:
    bring_all(doors, 500, seed=1000 * (piece + 1))
