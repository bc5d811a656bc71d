"""Verification: what is whole is told from what is damaged, and what is known of it is shown."""

import gzip
import hashlib
import lzma
import os
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, NotFound
from bastide.model.access import ROOT
from bastide.operations import content
from bastide.operations.backup import proofs, verify
from bastide.operations.backup.verify import Wanted
from bastide.operations.rooms import Rooms
from framework.rooms import fake_rooms
from framework.streams import root_tar
from framework.vma_files import vma

pytestmark = [pytest.mark.anyio, pytest.mark.system]

FILES = {"etc/vzdump/pct.conf": b"hostname: one\n", "etc/hostname": b"one\n", "srv/data": os.urandom(300_000)}
STREAM = lzma.decompress(root_tar(FILES))


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path / "root")


def put(rooms: Rooms, data: bytes, day: int = 1, extension: str = "tar.gz") -> tuple[str, Path]:
    path = rooms.layout.local_storage / f"dump/vzdump-lxc-100-2026_01_{day:02d}-01_00_00.{extension}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"local:backup/{path.name}", path


async def verified(rooms: Rooms, wanted: Wanted) -> tuple[str | None, list[str]]:
    upid = await verify.start_verify(rooms, ROOT, wanted)
    record = await rooms.tasks.wait(upid)
    return record.exitstatus, [line.t for line in (await rooms.tasks.log(upid))[0]]


async def test_a_whole_one_gets_a_checksum_and_keeps_to_it(rooms: Rooms) -> None:
    volid, path = put(rooms, gzip.compress(STREAM))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    status, log = await verified(rooms, Wanted("local"))
    assert status == "OK"
    assert f"its SHA-256 is written down now: {digest}" in log
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    (row,) = await content.list_content(rooms, "local", "backup")
    assert row["verification"]["state"] == "ok"
    status, log = await verified(rooms, Wanted("local", volid))
    assert status == "OK"
    assert not any("written down" in line for line in log)
    # The same files, packed another way: whole, and not what it was.
    path.write_bytes(gzip.compress(STREAM, 1))
    status, log = await verified(rooms, Wanted("local", volid))
    assert status == "1 of 1 backups are damaged or cannot be read: see the log"
    assert any("the file has changed since" in line for line in log)
    (row,) = await content.list_content(rooms, "local", "backup")
    assert row["verification"]["state"] == "failed"


def damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        pytest.param(gzip.compress(STREAM)[:-1000], "tar.gz", id="cut off"),
        pytest.param(damaged(gzip.compress(STREAM)), "tar.gz", id="one bit"),
        pytest.param(STREAM[:100_000], "tar", id="cut off, plain"),
        pytest.param(gzip.compress(STREAM[:100_000]), "tar.gz", id="cut off before it was compressed"),
        pytest.param(STREAM, "tar.gz", id="not compressed"),
        pytest.param(b"", "tar.gz", id="empty"),
        pytest.param(gzip.compress(b"no archive at all" * 100), "tar.gz", id="no archive"),
        pytest.param(
            gzip.compress(lzma.decompress(root_tar({"etc/hostname": b"without a configuration"}))),
            "tar.gz",
            id="no configuration",
        ),
    ],
)
async def test_what_is_damaged_is_found(rooms: Rooms, data: bytes, extension: str) -> None:
    volid, path = put(rooms, data, extension=extension)
    status, _ = await verified(rooms, Wanted("local", volid))
    assert status == "1 of 1 backups are damaged or cannot be read: see the log"
    assert not path.with_name(f"{path.name}.sha256").exists()
    known = await proofs.verifications(rooms, "local")
    assert known[volid].state == "failed"
    assert known[volid].reason


async def test_a_damaged_one_does_not_keep_the_others_from_being_read(rooms: Rooms) -> None:
    bad, _ = put(rooms, b"nothing", 1)
    good, _ = put(rooms, gzip.compress(STREAM), 2)
    status, _ = await verified(rooms, Wanted("local", vmid=100))
    assert status == "1 of 2 backups are damaged or cannot be read: see the log"
    assert {volid: one.state for volid, one in (await proofs.verifications(rooms, "local")).items()} == {
        bad: "failed",
        good: "ok",
    }


async def test_a_recent_success_is_believed_for_as_long_as_is_said(rooms: Rooms) -> None:
    put(rooms, gzip.compress(STREAM), 1)
    bad, path = put(rooms, b"nothing", 2)
    await verified(rooms, Wanted("local"))
    path.write_bytes(gzip.compress(STREAM))
    _, log = await verified(rooms, Wanted("local", outdated_after=30))
    assert [line.partition(" (")[0] for line in log if line.startswith("verifying")] == [f"verifying '{bad}'"]
    _, log = await verified(rooms, Wanted("local", outdated_after=30))
    assert "0 of 0 backups are whole" in log
    _, log = await verified(rooms, Wanted("local", outdated_after=0))
    assert "2 of 2 backups are whole" in log


async def test_what_is_known_goes_with_the_backup(rooms: Rooms) -> None:
    volid, path = put(rooms, gzip.compress(STREAM), 1)
    lost, gone = put(rooms, gzip.compress(STREAM), 2)
    await verified(rooms, Wanted("local"))
    await rooms.tasks.wait(await content.delete_volume(rooms, ROOT, volid))
    assert set(await proofs.verifications(rooms, "local")) == {lost}
    assert not path.with_name(f"{path.name}.sha256").exists()
    gone.unlink()
    await verified(rooms, Wanted("local"))
    assert await proofs.verifications(rooms, "local") == {}


async def test_what_cannot_be_verified_is_refused_at_once(rooms: Rooms) -> None:
    for wanted, key in (
        (Wanted("nowhere"), "storage"),
        (Wanted("local", "local:backup/vzdump-lxc-100-2026_01_01-01_00_00.tar.gz"), "volume"),
        (Wanted("local", "local:vztmpl/debian.tar.gz"), "volume"),
    ):
        with pytest.raises(InvalidParameter) as refused:
            await verify.start_verify(rooms, ROOT, wanted)
        assert list(refused.value.errors) == [key]


async def test_a_link_in_the_place_of_a_backup_is_not_followed(rooms: Rooms, tmp_path: Path) -> None:
    volid, path = put(rooms, gzip.compress(STREAM))
    secret = tmp_path / "secret"
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises((NotFound, InvalidParameter, HostFailure)):
        await verify.start_verify(rooms, ROOT, Wanted("local", volid))
    assert (await verified(rooms, Wanted("local")))[0] == "OK"
    assert await proofs.verifications(rooms, "local") == {}


async def test_a_vms_archive_is_read_whole(rooms: Rooms) -> None:
    conf = b"name: db\nscsi0: local:100/vm-100-disk-0.raw,size=1M\n"
    data = vma({"qemu-server.conf": conf}, {"drive-scsi0": os.urandom(1 << 20)})
    folder = rooms.layout.local_storage / "dump"
    folder.mkdir(parents=True, exist_ok=True)
    whole, changed, short = (folder / f"vzdump-qemu-{vmid}-2026_01_01-01_00_00.vma" for vmid in (100, 101, 102))
    whole.write_bytes(data)
    extent = data.index(b"VMAE")
    changed.write_bytes(data[: extent + 60] + bytes([data[extent + 60] ^ 1]) + data[extent + 61 :])
    short.write_bytes(data[:-100_000])
    status, log = await verified(rooms, Wanted("local"))
    assert status == "2 of 3 backups are damaged or cannot be read: see the log", log
    assert {
        volid.rpartition("/")[2]: one.state for volid, one in (await proofs.verifications(rooms, "local")).items()
    } == {
        whole.name: "ok",
        changed.name: "failed",
        short.name: "failed",
    }
