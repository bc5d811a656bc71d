"""Bad input and bad luck: a clear error, nothing left behind, nothing lost, and the next try works."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from framework.host import ApiFailure, Host, TaskFailed

pytestmark = pytest.mark.system


def _create(host: Host, vmid: int, **options: object) -> str:
    values = {"ostemplate": host.template(), "unprivileged": 1, "hostname": "x", **options}
    return str(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, **values))


def _volumes(host: Host) -> set[str]:
    rows = host.get(f"/nodes/{host.node}/storage/local/content")
    return {row["volid"] for row in rows if row["content"] in ("rootdir", "images")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ostemplate": "local:vztmpl/missing.tar.zst"}, "does not exist"),
        ({"ostemplate": "nowhere:vztmpl/missing.tar.zst"}, "storage 'nowhere' does not exist"),
        ({"ostemplate": "../../etc/passwd"}, "ostemplate"),
        ({"net0": "name=eth0,bridge=nobridge0"}, "nobridge0"),
        ({"net0": "name=eth0,ip=300.1.1.1/24"}, "net0"),
        ({"hostname": "a\nlxc.mount.entry=/ x"}, "hostname"),
        ({"memory": "-5", "cores": "many"}, "memory"),
        ({"rootfs": "nowhere:4"}, "nowhere"),
        ({"rootfs": "/etc"}, "rootfs"),
        ({"pool": "nopool"}, "nopool"),
        ({"mp0": "/root,mp=/x/../../y"}, "mp0"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_made(host: Host, options: dict[str, str], words: str) -> None:
    vmid = host.new_vmid()
    before = _volumes(host)
    with pytest.raises((ApiFailure, TaskFailed), match=words):
        host.wait(_create(host, vmid, **options))
    assert _volumes(host) == before
    assert vmid not in [row["vmid"] for row in host.get(f"/nodes/{host.node}/lxc")]


def test_a_broken_archive_leaves_nothing(host: Host) -> None:
    good = host.root / "state/storage" / "template/cache" / host.template().rpartition("/")[2]
    broken = good.with_name("broken_1_amd64.tar.zst")
    broken.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    vmid = host.new_vmid()
    before = _volumes(host)
    with pytest.raises(TaskFailed, match="archive"):
        host.wait(_create(host, vmid, ostemplate="local:vztmpl/broken_1_amd64.tar.zst"))
    assert _volumes(host) == before
    broken.unlink()
    host.wait(_create(host, vmid))
    host.wait(host.delete(host.path(vmid)))


def test_a_taken_vmid_is_refused_and_the_owner_lives(host: Host) -> None:
    vmid = host.create(hostname="owner")
    with pytest.raises(ApiFailure, match="already exists"):
        _create(host, vmid, hostname="thief")
    assert host.get(host.path(vmid, "/config"))["hostname"] == "owner"
    host.wait(host.delete(host.path(vmid)))


def test_two_creations_of_one_vmid(host: Host) -> None:
    vmid = host.new_vmid()
    host.template()
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            outcomes.append(_create(host, vmid))
        except ApiFailure as failure:
            outcomes.append(failure.message)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = [text for text in outcomes if text.startswith("UPID")]
    assert len(started) == 1
    assert sum("already exists" in text for text in outcomes) == 3
    host.wait(started[0])
    host.wait(host.delete(host.path(vmid)))


def test_a_cancelled_creation_leaves_nothing(host: Host) -> None:
    # One that no base has been made of yet, so that it takes its time.
    cache = host.root / "state/storage/template/cache"
    found = cache / host.template().rpartition("/")[2]
    shutil.copyfile(found, cache / f"fresh-{found.name}")
    vmid = host.new_vmid()
    before, bases = _volumes(host), set((cache.parents[1] / ".base").iterdir())
    upid = _create(host, vmid, ostemplate=f"local:vztmpl/fresh-{found.name}")
    time.sleep(0.5)
    host.delete(f"/nodes/{host.node}/tasks/{upid}")
    with pytest.raises(TaskFailed, match="received interrupt"):
        host.wait(upid)
    assert _volumes(host) == before
    assert set((cache.parents[1] / ".base").iterdir()) == bases
    assert vmid not in [row["vmid"] for row in host.get(f"/nodes/{host.node}/lxc")]


def test_a_full_disk(own_host: Host, tmp_path: Path) -> None:
    """A storage on a small file system fills up in the middle of unpacking."""

    image, mounted = tmp_path / "small.img", own_host.root / "small"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        own_host.post("/storage", storage="small", type="dir", path=str(mounted), content="rootdir")
        vmid = own_host.new_vmid()
        with pytest.raises(TaskFailed, match=r"(?i)no space|full"):
            own_host.wait(_create(own_host, vmid, rootfs="small:0"))
        assert own_host.get(f"/nodes/{own_host.node}/storage/small/content") == []
        assert vmid not in [row["vmid"] for row in own_host.get(f"/nodes/{own_host.node}/lxc")]
        own_host.delete("/storage/small")
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
