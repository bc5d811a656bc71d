"""Disk images that attack the host, through every door by which one comes in.

Attack classes 1 to 3: images that name files of the host or servers, formats that lie, bombs.
"""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.model.storage import StorageConfig
from bastide.storage.dir import DirStorage
from framework.evil import Canary, canary, resident
from framework.evil_images import EVIL, ISO, ISO_HYBRID, OVA, Evil, Listener, listener, qcow2
from framework.host import ApiFailure, Host, TaskFailed
from framework.served import served

pytestmark = pytest.mark.system

SECONDS = 30
MEMORY = 100 << 20


@pytest.fixture
def bird() -> Iterator[Canary]:
    """A canary that must be as it was when the test ends."""
    with canary() as made:
        yield made
        made.check()


@pytest.fixture
def ears() -> Iterator[Listener]:
    """A port that nobody may connect to."""
    with listener() as found:
        yield found
        assert found.seen == []


Door = Callable[[Host, str, str, bytes], str]
"""(host, content type, file name, image) -> the task's log; raises ApiFailure or TaskFailed."""


def upload(host: Host, kind: str, name: str, data: bytes) -> str:
    """As a browser sends it."""
    files: Any = [("content", (None, kind)), ("filename", (name, data))]
    answer = host.http.post(f"/nodes/{host.node}/storage/local/upload", files=files)
    if answer.status_code != 200:
        raise ApiFailure(answer)
    return host.wait(answer.json()["data"])


def upload_compressed(host: Host, kind: str, name: str, data: bytes) -> str:
    """Packed, so that what is checked is not what arrived."""
    return upload(host, kind, f"{name}.gz", gzip.compress(data, 1))


def download(host: Host, kind: str, name: str, data: bytes) -> str:
    """From a server on the host's own bridge: root may reach private networks."""
    with served(host, data) as url:
        where = f"/nodes/{host.node}/storage/local/download-url"
        return host.wait(host.post(where, url=f"{url}/image", content=kind, filename=name))


@contextmanager
def planted(host: Host, name: str, data: bytes) -> Iterator[Path]:
    """An image that lies among the storage's images, by whatever way it came there."""
    file = host.root / "state/storage/import" / name
    file.write_bytes(data)
    try:
        yield file
    finally:
        file.unlink()


def import_from(host: Host, _kind: str, name: str, data: bytes) -> str:
    """As the disk of a new VM."""
    with planted(host, name, data):
        disk = f"local:0,import-from=local:import/{name}"
        return host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=host.new_vmid(), scsi0=disk))


def import_from_path(host: Host, _kind: str, name: str, data: bytes) -> str:
    """As the disk of a new VM, by a path of the host's, as root may."""
    with planted(host, name, data) as file:
        disk = f"local:0,import-from={file}"
        return host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=host.new_vmid(), scsi0=disk))


def importdisk(host: Host, _kind: str, name: str, data: bytes) -> str:
    """As a further disk of a VM."""
    vmid = host.new_vmid()
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=vmid))
    try:
        with planted(host, name, data):
            disk = f"local:0,import-from=local:import/{name}"
            return host.wait(host.post(f"/nodes/{host.node}/qemu/{vmid}/config", scsi0=disk))
    finally:
        host.wait(host.delete(f"/nodes/{host.node}/qemu/{vmid}"))


DOORS: dict[str, Door] = {"upload": upload, "upload, compressed": upload_compressed, "download-url": download}
VM_DOORS: dict[str, Door] = {
    "import-from": import_from, "import-from, a path": import_from_path, "importdisk": importdisk,
}  # fmt: skip


def files(host: Host) -> set[Path]:
    """Every file on the host's storage."""
    return {path for path in (host.root / "state/storage").rglob("*") if path.is_file()}


def refused(host: Host, door: Door, kind: str, name: str, data: bytes) -> str:
    """Bring a file in; returns why it was refused, after a look at what is left."""
    before, memory, began = files(host), resident(host), time.monotonic()
    guests = host.get(f"/nodes/{host.node}/qemu")
    with pytest.raises((ApiFailure, TaskFailed)) as caught:
        door(host, kind, name, data)
    assert time.monotonic() - began < SECONDS
    assert resident(host) - memory < MEMORY
    assert files(host) - before == set()
    assert host.get(f"/nodes/{host.node}/qemu") == guests
    return str(caught.value)


@pytest.mark.parametrize("door", DOORS | VM_DOORS)
@pytest.mark.parametrize("name", EVIL)
def test_an_image_that_asks_for_more_than_itself_is_refused(
    host: Host, bird: Canary, ears: Listener, tmp_path: Path, name: str, door: str
) -> None:
    """ATTACKS 1 and 3, by every door. Without `check` in `host/disk_image.py` the image would come in."""
    evil: Evil = EVIL[name]
    data = evil.make(tmp_path, bird.folder / "passwd", ears.port)
    told = refused(host, (DOORS | VM_DOORS)[door], "import", evil.name, data)
    # A path has no format but the one that its content shows, so that it is refused for what it is then.
    assert door == "import-from, a path" or any(why in told for why in evil.why.split("|")), told
    assert bird.secret not in told


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("evil", [ISO, ISO_HYBRID], ids=["image", "both at once"])
def test_a_disk_image_is_no_iso(host: Host, bird: Canary, tmp_path: Path, evil: Evil, door: str) -> None:
    """ATTACKS 1. Without the look at an ISO's own header in `host/disk_image.py` it would come in."""
    told = refused(host, DOORS[door], "iso", evil.name, evil.make(tmp_path, bird.folder / "passwd", 1))
    assert any(why in told for why in evil.why.split("|")), told


@pytest.mark.parametrize("door", DOORS)
def test_an_archive_of_images_is_not_looked_into(host: Host, bird: Canary, tmp_path: Path, door: str) -> None:
    """ATTACKS 1: an OVA is refused as what it is; its members are never opened."""
    data = OVA.make(tmp_path, bird.folder / "passwd", 1)
    assert "OVA" in refused(host, DOORS[door], "import", OVA.name, data)


@pytest.mark.parametrize("door", DOORS)
def test_a_good_image_comes_in(host: Host, door: str) -> None:
    """The doors are open: what the other tests see refused is refused for what it is."""
    DOORS[door](host, "import", "good.qcow2", qcow2())
    where = f"/nodes/{host.node}/storage/local/content"
    rows = host.get(where, content="import")
    assert [(row["volid"], row["format"]) for row in rows] == [("local:import/good.qcow2", "qcow2")]
    host.wait(host.delete(f"{where}/local:import/good.qcow2"))


@pytest.mark.parametrize("door", VM_DOORS)
def test_a_good_image_becomes_a_disk(host: Host, door: str) -> None:
    """As above for the doors of VMs."""
    assert "TASK OK" in VM_DOORS[door](host, "import", "good.qcow2", qcow2())
    for guest in host.get(f"/nodes/{host.node}/qemu"):
        host.wait(host.delete(f"/nodes/{host.node}/qemu/{guest['vmid']}"))


@pytest.mark.anyio
@pytest.mark.parametrize("name", EVIL)
async def test_no_image_becomes_a_disk_that_a_door_would_refuse(
    bird: Canary, ears: Listener, tmp_path: Path, name: str
) -> None:
    """What lies on a storage already, by whatever way, is checked once more when a disk is made of it."""
    config = StorageConfig(storage="s1", type="dir", path=str(tmp_path / "disk"), content="images")
    storage = DirStorage(config, Layout(tmp_path))
    await storage.prepare()
    evil: Evil = EVIL[name]
    source = tmp_path / evil.name
    source.write_bytes(evil.make(tmp_path, bird.folder / "passwd", ears.port))
    form = "raw" if source.suffix in (".raw", ".img") else source.suffix[1:]
    began = time.monotonic()
    with pytest.raises(HostFailure) as caught:
        await storage.import_disk(source, form, "100/vm-100-disk-0.raw")
    assert time.monotonic() - began < SECONDS
    assert any(why in str(caught.value) for why in evil.why.split("|"))
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_a_bomb_is_unpacked_no_further_than_it_may(host: Host) -> None:
    """Two megabytes that become twice what they may."""
    packed = gzip.compress(bytes(256 << 20), 9) * 8
    assert "unpacks to more than" in refused(host, upload, "import", "bomb.raw.gz", packed)
