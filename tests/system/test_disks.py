"""The host's own disks, for real, on loop devices of the test's own: what is in use is never written to."""

import asyncio
import os
import struct
import subprocess
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.host import block_devices, disk_labels, filesystems
from bastide.operations import disk_folders
from framework.api import Api, call
from framework.loop_disks import loop_disks

pytestmark = [pytest.mark.system, pytest.mark.anyio]

NODE = "/nodes/pve/disks"
PARTS = {"include-partitions": 1}


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two empty disks."""
    with loop_disks(tmp_path, monkeypatch, 2) as made:
        yield made


@pytest.fixture
async def api(tmp_path: Path, disks: list[str]) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


def tool(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def label_for_lvm(path: str) -> None:
    """What pvcreate writes to a device's second sector; its CRC-32 begins with 0xf597a6cf and is not inverted."""
    label = struct.pack("<I8s32s", 32, b"LVM2 001", b"a" * 32).ljust(512 - 20, b"\0")
    checksum = zlib.crc32(label, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    with open(path, "r+b") as device:
        device.seek(512)
        device.write(struct.pack("<8sQI", b"LABELONE", 1, checksum) + label)


def reading(path: str) -> subprocess.Popen[bytes]:
    """A process that has a device open."""
    with open(path, "rb") as device:
        return subprocess.Popen(["sleep", "60"], stdin=device)


async def rows(api: Api, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["devpath"]: row for row in await api.data("GET", f"{NODE}/list", skipsmart=1, **options)}


async def refusal(api: Api, method: str, path: str, **values: Any) -> str:
    answer = await call(api.root, method, f"{NODE}{path}", **values)
    assert answer.status_code != 200, answer.text
    return answer.text


async def done(api: Api, method: str, path: str, **values: Any) -> None:
    upid = await api.data(method, f"{NODE}{path}", **values)
    ended = await api.wait(upid)
    log, _ = await api.services.rooms.tasks.log(upid)
    assert ended == "OK", [line.t for line in log]


async def test_a_disks_life(api: Api, disks: list[str]) -> None:
    disk, part = disks[0], f"{disks[0]}p1"
    before = (await rows(api))[disk]
    assert (before["size"], before["gpt"], before["mounted"], before.get("used")) == (320 << 20, 0, 0, None)

    label = "11111111-2222-4333-8444-555555555555"
    await done(api, "POST", "/initgpt", disk=disk, uuid=label)
    assert f"PTUUID={label}" in tool("blkid", "-p", "-o", "export", disk)
    assert (await rows(api))[disk]["gpt"] == 1
    assert "has a GPT already" in await refusal(api, "POST", "/initgpt", disk=disk)

    await done(api, "POST", "/directory", name="shelf", device=disk, add_storage=1)
    (folder,) = await api.data("GET", f"{NODE}/directory")
    where = Path(folder["path"])
    assert (folder["type"], where.name, os.path.ismount(where)) == ("ext4", "shelf", True)
    shown = await rows(api, **PARTS)
    assert (shown[disk]["used"], shown[disk]["mounted"]) == ("partitions", 1)
    assert (shown[part]["used"], shown[part]["parent"]) == ("ext4", disk)
    config = await api.data("GET", "/storage/shelf")
    assert (config["path"], config["type"], config["nodes"]) == (str(where), "dir", "pve")
    status = await api.data("GET", "/nodes/pve/storage/shelf/status")
    assert status["active"] == 1
    assert status["total"] < 320 << 20

    for method, path, values in (
        ("PUT", "/wipedisk", {"disk": disk}),
        ("PUT", "/wipedisk", {"disk": part}),
        ("POST", "/initgpt", {"disk": disk}),
        ("POST", "/directory", {"name": "other", "device": disk}),
        ("POST", "/directory", {"name": "other", "device": part}),
    ):
        assert f"mounted at {where}" in await refusal(api, method, path, **values)

    await done(api, "DELETE", "/directory/shelf", **{"cleanup-config": 1, "cleanup-disks": 1})
    assert await api.data("GET", f"{NODE}/directory") == []
    assert "shelf" not in [row["storage"] for row in await api.data("GET", "/storage")]
    assert filesystems.mount_at(where) is None
    assert "used" not in (await rows(api))[disk]
    assert Path(part).exists() is False


async def test_what_the_next_daemon_mounts(api: Api, disks: list[str]) -> None:
    await done(api, "POST", "/directory", name="shelf", device=disks[0])
    where = Path((await api.data("GET", f"{NODE}/directory"))[0]["path"])
    (where / "file").write_text("kept")
    await filesystems.unmount(where)
    await disk_folders.mount_recorded(api.services.rooms)
    await disk_folders.mount_recorded(api.services.rooms)
    assert (where / "file").read_text() == "kept"
    await filesystems.unmount(where)
    await done(api, "DELETE", "/directory/shelf")
    assert "partitions" in await refusal(api, "POST", "/directory", name="shelf", device=disks[0])
    await done(api, "PUT", "/wipedisk", disk=disks[0])
    await done(api, "POST", "/directory", name="shelf", device=disks[0])


async def test_a_partition_alone(api: Api, disks: list[str]) -> None:
    disk, part = disks[1], f"{disks[1]}p1"
    (device,) = [one for one in await block_devices.disks() if one.path == disk]
    with disk_labels.held(device):
        await disk_labels.make_gpt(device, part=disk_labels.LINUX)
    assert "is a partition" in await refusal(api, "POST", "/initgpt", disk=part)
    await done(api, "POST", "/directory", name="part", device=part, filesystem="xfs")
    assert (await rows(api, **PARTS))[part]["used"] == "xfs"
    await done(api, "DELETE", "/directory/part")
    await done(api, "PUT", "/wipedisk", disk=part)
    shown = await rows(api, **PARTS)
    assert "used" not in shown[part]
    assert shown[disk]["used"] == "partitions"


async def test_what_is_in_use_is_left_alone(api: Api, disks: list[str]) -> None:
    first, second = disks
    reader = reading(first)
    try:
        assert f"open in sleep ({reader.pid})" in await refusal(api, "PUT", "/wipedisk", disk=first)
    finally:
        reader.kill()
        reader.wait()
    rooms = api.services.rooms
    vmid = await rooms.guests.next_vmid()
    upid = await api.data("POST", "/nodes/pve/qemu", vmid=vmid, scsi0=second)
    assert await api.wait(upid) == "OK"
    assert f"guest {vmid} has {second}" in await refusal(api, "POST", "/initgpt", disk=second)

    tool("mkswap", "-q", first)
    assert "not empty (swap)" in await refusal(api, "POST", "/directory", name="dd", device=first)
    assert "no disk of this machine" in await refusal(api, "PUT", "/wipedisk", disk="/dev/null")
    assert "match pattern" in await refusal(api, "PUT", "/wipedisk", disk="/dev/zero/../../etc")
    await done(api, "PUT", "/wipedisk", disk=first)


async def test_members_of_something_larger(api: Api, disks: list[str]) -> None:
    first, second = disks
    label_for_lvm(second)
    shown = await rows(api)
    assert (shown[first].get("used"), shown[second]["used"]) == (None, "LVM")
    assert "belongs to an LVM volume group" in await refusal(api, "PUT", "/wipedisk", disk=second)
    assert [row["devpath"] for row in await api.data("GET", f"{NODE}/list", skipsmart=1, type="unused")] == [first]


async def test_what_is_taken_at_the_last_moment(
    api: Api, disks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the disk after every look at it still keeps it: the kernel says so."""
    disk, target = disks[0], tmp_path / "late"
    tool("mkfs.ext4", "-q", disk)
    target.mkdir()
    free = disk_labels.held

    def late(device: Any) -> Any:
        tool("mount", disk, str(target))
        (target / "file").write_text("kept")
        return free(device)

    monkeypatch.setattr(disk_labels, "held", late)
    upid = await api.data("PUT", f"{NODE}/wipedisk", disk=disk)
    assert await api.wait(upid) == f"{disk} is in use on this host"
    assert (target / "file").read_text() == "kept"


async def test_a_failure_wipes_again(api: Api, disks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise filesystems.failure(OSError(5, "no such luck"), "mount it")

    monkeypatch.setattr("bastide.host.mount_units.mount_now", broken)
    upid = await api.data("POST", f"{NODE}/directory", name="shelf", device=disks[0], add_storage=1)
    assert "no such luck" in await api.wait(upid)
    assert "used" not in (await rows(api))[disks[0]]
    assert await api.data("GET", f"{NODE}/directory") == []
    monkeypatch.undo()


async def test_two_tasks_on_one_disk(api: Api, disks: list[str]) -> None:
    upids = await asyncio.gather(
        *(api.data("POST", f"{NODE}/directory", name=f"d{n}", device=disks[0]) for n in range(3))
    )
    ends = [await api.wait(upid) for upid in upids]
    assert ends.count("OK") == 1, ends
    assert len(await api.data("GET", f"{NODE}/directory")) == 1


async def test_a_folder_that_a_guest_uses(api: Api, disks: list[str]) -> None:
    await done(api, "POST", "/directory", name="shelf", device=disks[0], add_storage=1)
    vmid = await api.services.rooms.guests.next_vmid()
    upid = await api.data("POST", "/nodes/pve/qemu", vmid=vmid, scsi0="shelf:0.01")
    assert await api.wait(upid) == "OK"
    assert f"guest {vmid} has the volume shelf:{vmid}/" in await refusal(
        api, "DELETE", "/directory/shelf", **{"cleanup-config": 1, "cleanup-disks": 1}
    )
    assert await api.wait(await api.data("DELETE", f"/nodes/pve/qemu/{vmid}")) == "OK"
    await done(api, "DELETE", "/directory/shelf", **{"cleanup-config": 1, "cleanup-disks": 1})
