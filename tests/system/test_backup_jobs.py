"""Backup jobs, verification, retention and restore tests of a real container, through the public API."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.host import Host, TaskFailed
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_OWN = "/bastide/backup"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host of its own: what its schedules do would be in others' way."""
    with Host.launched(number=4) as launched:
        yield launched


@pytest.fixture(scope="module")
def guest(host: Host) -> int:
    vmid = host.create(start=True, hostname="shop", rootfs="local:1", net0=f"name=eth0,bridge={host.bridge},ip=dhcp")
    host.wait_booted(vmid)
    host.execute(vmid, "sh", "-c", "echo precious > /root/data")
    return vmid


def _storage(host: Host, rest: str) -> str:
    return f"/nodes/{host.node}/storage/local/{rest}"


def _backups(host: Host) -> list[dict[str, Any]]:
    return sorted(host.get(_storage(host, "content"), content="backup"), key=lambda row: row["ctime"])


def _until(found: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds * PATIENCE
    while not (value := found()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.2)
    return value


def _tries(host: Host) -> list[dict[str, Any]]:
    """The copies that are there."""
    return [row for row in host.get("/cluster/resources", type="vm") if row["vmid"] >= 910_000_000]


def test_a_job_saves_at_its_time_and_goes_on_when_it_is_removed(host: Host, guest: int) -> None:
    host.post("/cluster/backup", id="often", vmid=guest, schedule="*:*:0/3", storage="local", compress="zstd")
    row = host.get("/cluster/backup/often")
    assert 0 <= row["next-run"] - time.time() < 10
    tasks = _until(lambda: host.get(f"/nodes/{host.node}/tasks", typefilter="vzdump", source="all"))
    host.delete("/cluster/backup/often")
    assert tasks[-1]["user"] == "root@pam"
    for task in host.get(f"/nodes/{host.node}/tasks", typefilter="vzdump", source="all"):
        host.wait(task["upid"])
    assert _backups(host)[0]["vmid"] == guest
    assert host.get("/cluster/backup") == []


def test_verification_finds_a_changed_byte(host: Host, guest: int) -> None:
    host.wait(host.post(f"{_OWN}/verify", storage="local", vmid=guest))
    backup = _backups(host)[-1]
    assert backup["verification"]["state"] == "ok"
    path = Path(host.get(_storage(host, f"content/{backup['volid']}"))["path"])
    middle = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(middle)
        before = file.read(1)
        file.seek(middle)
        file.write(bytes([before[0] ^ 0x10]))
    with pytest.raises(TaskFailed, match="damaged"):
        host.wait(host.post(f"{_OWN}/verify", storage="local", volume=backup["volid"]))
    assert _backups(host)[-1]["verification"]["state"] == "failed"
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(before)
    host.wait(host.post(f"{_OWN}/verify", storage="local", volume=backup["volid"]))
    assert _backups(host)[-1]["verification"]["state"] == "ok"


def test_a_restore_is_tried_beside_its_guest(host: Host, guest: int) -> None:
    address = host.wait_address(guest)
    command = 'cat /root/data; ip -o link; test -z "$(ip -4 -o address show up scope global)"'
    host.wait(host.post(f"{_OWN}/tests", vmid=guest, command=command))
    (result,) = host.get(f"{_OWN}/tests", vmid=guest)
    assert (result["ok"], result["step"], result["vmid"]) == (True, "done", guest)
    assert "precious" in result["output"]
    assert "NO-CARRIER" in result["output"] or "state DOWN" in result["output"] or "M-DOWN" in result["output"]
    assert _backups(host)[-1]["restore-test"]["ok"] == 1
    with pytest.raises(TaskFailed, match="1 of 1 restore tests failed"):
        host.wait(host.post(f"{_OWN}/tests", vmid=guest, command="grep -q something-else /root/data"))
    newest = host.get(f"{_OWN}/tests", vmid=guest)[0]
    assert (newest["ok"], newest["step"]) == (False, "probe")
    assert _tries(host) == []
    assert host.wait_address(guest) == address
    assert len(host.get(_storage(host, "content"), content="rootdir")) == 1


def test_a_killed_daemon_leaves_no_copy(host: Host, guest: int) -> None:
    born = host.execute(guest, "cat", "/proc/1/stat").split()[21]
    host.post(f"{_OWN}/tests", vmid=guest, command="sleep 600")
    _until(lambda: any(row["status"] == "running" for row in _tries(host)))
    host.kill()
    host.start()
    assert _tries(host) == []
    assert len(host.get(_storage(host, "content"), content="rootdir")) == 1
    assert host.execute(guest, "cat", "/proc/1/stat").split()[21] == born
    host.wait(host.post(f"{_OWN}/tests", vmid=guest))


def test_retention_leaves_the_newest(host: Host, guest: int) -> None:
    host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=guest, storage="local", compress="zstd"))
    newest = _backups(host)[-1]["volid"]
    keep = {"prune-backups": "keep-last=1", "vmid": guest}
    marks = {row["volid"]: row["mark"] for row in host.get(_storage(host, "prunebackups"), **keep)}
    assert marks.pop(newest) == "keep"
    assert set(marks.values()) == {"remove"}
    host.wait(host.delete(_storage(host, "prunebackups"), **keep))
    assert [row["volid"] for row in _backups(host)] == [newest]
    with contextlib.suppress(StopIteration):
        left = next(path for path in host.root.rglob("*.sha256"))
        assert newest.rpartition("/")[2] in left.name
